@testable import Methods
@testable import Study

/// Sections by name, which the program itself never asks for.
extension Recipe {
  private subscript<Settings>(_ section: Section<Settings>) -> Settings {
    get { section.settings(methods[section.key] ?? Settings()) }
    set { methods[section.key] = newValue }
  }

  var teacher: Pretraining {
    get { self[Section.teacher] }
    set { self[Section.teacher] = newValue }
  }
  var student: Pretraining {
    get { self[Section.student] }
    set { self[Section.student] = newValue }
  }
  var hadnet: Distillation {
    get { self[Section.hadnet] }
    set { self[Section.hadnet] = newValue }
  }
  var kdnet: KnowledgeDistillation {
    get { self[Section.kdnet] }
    set { self[Section.kdnet] = newValue }
  }
  var uhemis: WindowTraining {
    get { self[Section.uhemis] }
    set { self[Section.uhemis] = newValue }
  }
  var uhved: HeteromodalTraining {
    get { self[Section.uhved] }
    set { self[Section.uhved] = newValue }
  }
}
