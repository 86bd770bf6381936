import Compute
import Evaluation
import Files
import Foundation
import Imaging
import Study
import Testing

@testable import Learning
@testable import Methods
@testable import TestSupport

/// The package's own folder.
private let root = URL(fileURLWithPath: #filePath).appending(path: "../../..").standardized.path

private func mistake(_ yaml: String, _ overrides: String...) -> Fault? {
  do {
    _ = try Recipe(yaml: yaml, file: "demo.yaml", overrides: overrides)
    return nil
  } catch { return error }
}

@Suite struct RecipeTests {
  @Test func aKeyOfAnyDepthIsUnknown() {
    let deep = String(repeating: "a.", count: 50_000) + "b=1"
    do throws(Fault) {
      _ = try Recipe(yaml: "name: a", overrides: [deep])
      Issue.record("it is taken")
    } catch {
      #expect(error.kind == .recipe && error.description.contains("is not a known key"), "\(error)")
      #expect(error.description.utf8.count < 1000)
    }
  }

  @Test func defaultsAreThePapersNumbers() {
    let recipe = Recipe()
    #expect(recipe.network.k == 32 && recipe.network.dropout == 0.2)
    #expect(
      recipe.data.classWeights(TaskPreset.brats.task) == .fixed([1, 59.4507, 23.3190, 71.8481]))
    #expect(recipe.data.classWeights(TaskPreset.pediatric.task) == .data)
    #expect(recipe.data.split == .ratio(train: 200, validation: 66, test: 69))
    #expect(recipe.data.mask == .student && recipe.data.negative == .refuse && recipe.data.size == nil)
    for stage in [recipe.teacher, recipe.student] {
      #expect(stage.epochs == 400 && stage.rate == 2e-4)
      #expect(stage.beta1 == 0.9 && stage.beta2 == 0.999 && stage.epsilon == 1e-8 && stage.decay == 1e-5)
      #expect(stage.plateau.patience == 30 && stage.plateau.factor == 0.5)
      #expect(stage.classWeightDecay == 0.98 && stage.classWeightFloor == 1)
      let change = stage.augmentation
      #expect(change.enabled && change.flip == 0.5 && change.affine == 0.8)
      #expect(change.rotation == 4 && change.shear == 0.04 && change.scale == 0.04)
      #expect(stage.validationInterval == 1)
    }
    #expect(recipe.hadnet.epochs == 800 && recipe.hadnet.rate == 2e-4)
    #expect(recipe.hadnet.beta1 == 0.5 && recipe.hadnet.beta2 == 0.999 && recipe.hadnet.epsilon == 1e-8)
    #expect(recipe.hadnet.lambda == 0.2 && recipe.hadnet.gate == 0.8 && recipe.hadnet.teacherDropout)
    #expect(recipe.hadnet.classWeights == nil && recipe.batch == nil && recipe.scaling == .none)
  }

  @Test func paperYamlIsTheDefaults() throws {
    #expect(try Recipe.load("\(root)/recipes/paper.yaml") == Recipe())
  }

  @Test func demoYamlIsRead() throws {
    let demo = try Recipe.load("\(root)/recipes/demo.yaml")
    #expect(demo.name == "demo" && demo.network.k == 4 && demo.batch == 2)
  }

  @Test func absentKeysAndSectionsTakeThePapersValues() throws {
    var expected = Recipe()
    expected.hadnet.rate = 1e-3
    #expect(try Recipe(yaml: "hadnet:\n  rate: 1e-3\nteacher:\n  # epochs: 3\n") == expected)
  }

  @Test func everyValueSurvivesWritingAndReading() throws {
    var recipe = Recipe()
    recipe.name = "true \"story\": 1 # \\ \n ü"
    recipe.seed = .max
    recipe.data.path = "/data/my set"
    recipe.data.split = .file("7.json")
    recipe.data.splitSeed = 7
    recipe.data.mask = .all
    recipe.data.negative = .absolute
    recipe.data.size = Size(64, 48, 32)
    recipe.data.classWeights = .data
    recipe.batch = 8
    recipe.scaling = .sqrt
    recipe.network.dropout = 0.1
    recipe.teacher.epsilon = 1e-12
    recipe.teacher.rate = 0.1 + 0.2
    recipe.student.augmentation.enabled = false
    recipe.student.classWeightFloor = 0
    recipe.hadnet.teacherDropout = false
    recipe.hadnet.classWeights = .fixed([1, 2.5, 1e-7, 0])
    recipe.checkpoints.keep = 5
    #expect(try Recipe(yaml: recipe.yaml) == recipe)
    #expect(try Recipe(yaml: recipe.yaml).yaml == recipe.yaml)
  }

  @Test(arguments: ["null", "~", "yes", "1e3", "-", "a: b", " x", "#", "data", "é", "./a.json"])
  func namesThatYamlCouldMistakeSurvive(name: String) throws {
    var recipe = Recipe()
    recipe.name = name
    recipe.data.split = .file(name)
    #expect(try Recipe(yaml: recipe.yaml) == recipe)
  }

  @Test func overridesWinOverTheFile() throws {
    let recipe = try Recipe(
      yaml: "hadnet: {rate: 0.1}",
      overrides: [
        "hadnet.rate=1e-3", "teacher.plateau.patience=5", "data.split.train=6",
        "data.split.validation=2", "data.class_weights=[1, 2, 3, 4]",
        "batch=4", "batch=null", "name=a=b",
      ])
    #expect(recipe.hadnet.rate == 1e-3 && recipe.teacher.plateau.patience == 5)
    // A set that is not named is empty.
    #expect(recipe.data.split == .counts(train: 6, validation: 2, test: 0))
    #expect(recipe.data.classWeights == .fixed([1, 2, 3, 4]))
    #expect(recipe.batch == nil && recipe.name == "a=b")
  }

  @Test func aSplitIsCountsOrProportions() throws {
    func split(_ text: String, _ overrides: String...) throws -> SplitSettings {
      try Recipe(yaml: "data:\n  split: \(text)\n", overrides: overrides).data.split
    }
    #expect(try split("{train: 6, validation: 2}") == .counts(train: 6, validation: 2, test: 0))
    #expect(try split("{ratio: [3, 1, 0]}") == .ratio(train: 3, validation: 1, test: 0))
    for settings in [
      SplitSettings.counts(train: 6, validation: 0, test: 2), .ratio(train: 3, validation: 1, test: 1),
      .folds(count: 3, fold: 2), .file("a: b", fold: 1),
    ] {
      var recipe = Recipe()
      recipe.data.split = settings
      recipe.data.allowLeak = true
      #expect(try Recipe(yaml: recipe.yaml) == recipe)
    }
    #expect(try split("{folds: 5, fold: 2}") == .folds(count: 5, fold: 2))
    #expect(try split("{folds: 5}", "data.split.fold=4") == .folds(count: 5, fold: 4))
    #expect(try split("{file: s.json, fold: 1}") == .file("s.json", fold: 1))
    #expect(try split("{file: s.csv}") == .file("s.csv") && split("s.csv") == .file("s.csv"))
    #expect(try split("{ratio: [3, 1, 1]}", "data.split.folds=3") == .folds(count: 3, fold: 0))
    #expect(try split("{folds: 5, fold: 2}", "data.split.file=s.csv") == .file("s.csv", fold: 2))
    for (text, words) in [
      ("{folds: 2}", "data.split.folds is 2; 3 to 1000 are possible"),
      ("{folds: 3, fold: 3}", "data.split.fold is 3; 0 to 2 are possible of 3 folds"),
    ] {
      let found = #expect(throws: Fault.self) { try split(text) }
      #expect(found == Fault(.recipe, "recipe.yaml:2: \(words)"))
    }
    // What is set takes the place of what it can't stand beside.
    #expect(
      try split("{ratio: [3, 1, 1]}", "data.split.train=5") == .counts(train: 5, validation: 0, test: 0))
    #expect(
      try split("{train: 6, validation: 2}", "data.split.ratio=[2, 1, 1]")
        == .ratio(train: 2, validation: 1, test: 1))
    #expect(
      try split("{train: 6, validation: 2}", "data.split.test=1") == .counts(train: 6, validation: 2, test: 1)
    )
    for wrong in [
      "{ratio: [0, 1, 1]}", "{ratio: [3, 1]}", "{ratio: [3, 1, 1], train: 5}", "{validation: 2}", "{}",
    ] {
      #expect(throws: Fault.self) { try split(wrong) }
    }
  }

  @Test(arguments: [
    (
      "name: x\nhadnet:\n  lamda: 0.2\n", "demo.yaml:3: hadnet.lamda is not a known key; did you mean lambda?"
    ),
    ("hatnet:\n  lambda: 0.2\n", "demo.yaml:1: hatnet is not a known key; did you mean hadnet?"),
    ("epochs: 3\n", "demo.yaml:1: epochs is not a known key; did you mean teacher.epochs?"),
    (
      "network:\n  xylophone: 1\n", "demo.yaml:2: network.xylophone is not a known key; known are k, dropout"
    ),
    (
      "\nhadnet:\n  rate: -1e-3\n",
      "demo.yaml:3: hadnet.rate must be a number above 0 and at most 1, not -1e-3"
    ),
    ("network:\n  k: many\n", "demo.yaml:2: network.k must be a whole number from 1 to 256, not \"many\""),
    ("network:\n  k: 4.5\n", "demo.yaml:2: network.k must be a whole number from 1 to 256, not 4.5"),
    ("network:\n  k: \"4\"\n", "demo.yaml:2: network.k must be a whole number from 1 to 256, not \"4\""),
    ("network:\n  k:\n", "demo.yaml:2: network.k must be a whole number from 1 to 256, not empty"),
    (
      "network:\n  dropout: 1\n",
      "demo.yaml:2: network.dropout must be a number from 0 to below 1, not 1"
    ),
    (
      "hadnet:\n  rate: .inf\n",
      "demo.yaml:2: hadnet.rate must be a number above 0 and at most 1, not \".inf\""
    ),
    ("hadnet: 3\n", "demo.yaml:1: hadnet is a section of keys, not 3"),
    ("teacher:\n  augmentation: true\n", "demo.yaml:2: teacher.augmentation is a section of keys, not true"),
    (
      "hadnet:\n  teacher_dropout: on\n",
      "demo.yaml:2: hadnet.teacher_dropout must be true or false, not \"on\""
    ),
    ("scaling: cubic\n", "demo.yaml:1: scaling must be none, sqrt or linear, not \"cubic\""),
    (
      "data:\n  class_weights: [0, 0, 0]\n",
      "demo.yaml:2: data.class_weights must be a number from 0 for the background and each class, not all 0, or data, "
        + "or null (the paper's for BraTS's classes, data's for others), not [0, 0, 0]"
    ),
    (
      "task: brats\nhadnet:\n  class_weights: [1, 2, 3]\n",
      "demo.yaml:3: hadnet.class_weights has 3 numbers, and this task needs 4 (background, NET, ED, ET), or data"
    ),
    (
      "data: {class_weights: [1, 2, 3, 4]}\ntask: brats2024\n",
      "demo.yaml:1: data.class_weights has 4 numbers, and this task needs 5 (background, NETC, SNFH, ET, RC), or data"
    ),
    (
      "data:\n  size: [64, 48, 30]\n",
      "demo.yaml:2: data.size must be three sides [z, y, x], each a multiple of 16 and at least 32, or null "
        + "(found from the data), not [64, 48, 30]"
    ),
    (
      "data:\n  split: {train: 3, tset: 1}\n",
      "demo.yaml:2: data.split must be counts {train: 7, validation: 2, test: 2} with at least 1 to train, "
        + "proportions {ratio: [200, 66, 69]}, a fold {folds: 5, fold: 0} counted from 0, the name of a file, or a fold "
        + "of one {file: NAME, fold: 0}, not {train: 3, tset: 1}"
    ),
    (
      "batch: 0\n",
      "demo.yaml:1: batch must be a whole number from 1 to 100000, or null (one case a rank), not 0"
    ),
    ("- 1\n- 2\n", "demo.yaml:1: a recipe is lines of the form key: value"),
    (
      "name: x\nhadnet: {rate: 1\n",
      "demo.yaml:3: not valid YAML: while parsing a flow mapping, did not find expected ',' or '}'"
    ),
    (
      "name: x\n\thadnet: 1\n",
      "demo.yaml:2: not valid YAML: while scanning a plain scalar, found a tab character that violates indentation"
    ),
    ("name: x\nseed: 1\nname: y\n", "demo.yaml:1: name stands twice in this section"),
  ])
  func mistakesAreNamedWithLineAndKey(yaml: String, sentence: String) {
    let fault = mistake(yaml)
    #expect(fault?.description == sentence)
    #expect(fault?.kind == .recipe)
  }

  /// Small files that would take all memory or the whole stack.
  @Test(arguments: [
    (
      "a0: &a0 [1]\n"
        + (1...9).map { level in
          "a\(level): &a\(level) [" + Array(repeating: "*a\(level - 1)", count: 9).joined(separator: ",")
            + "]\n"
        }.joined(), "demo.yaml:3: more than 16 anchors and aliases (&, *): write the values out"
    ),
    ("name: " + String(repeating: "[", count: 100_000), "demo.yaml:1: more than 1000 lists and sections"),
    ("name: " + String(repeating: "{a: ", count: 100_000), "demo.yaml:1: more than 1000 lists and sections"),
    (String(repeating: "- ", count: 100_000) + "x", "demo.yaml:1: nested too deeply"),
    ("name: x\n" + String(repeating: "? ", count: 100_000) + "x", "demo.yaml:2: nested too deeply"),
    (
      "name: " + String(repeating: "x", count: 2 << 20),
      "demo.yaml:1: the file has more than 1 MB, and a recipe a few kB"
    ),
  ])
  func bombsAreRefused(yaml: String, sentence: String) {
    #expect(mistake(yaml)?.description == sentence)
    #expect(mistake("name: x", "name=" + yaml)?.kind == .recipe)
  }

  @Test func aFewAliasesAreFine() throws {
    let recipe = try Recipe(yaml: "teacher: &a {epochs: 7}\nstudent: *a\n# * and & in words, 3*x, a&b\n")
    #expect(recipe.teacher.epochs == 7 && recipe.student.epochs == 7)
  }

  @Test func aByteOrderMarkIsSkipped() throws {
    #expect(try Recipe(yaml: "\u{FEFF}name: x\n").name == "x")
  }

  @Test func whatIsQuotedIsShort() throws {
    let long = String(repeating: "y", count: 10_000)
    for fault in [
      mistake("batch: \(long)"), mistake("\(long): 1"), mistake("hadnet: {\(long): 1}"),
      mistake("hadnet: [\(long), 1]"), mistake("seed: 1", "batch=\(long)"), mistake("seed: 1", long),
      mistake("seed: 1", "\(long)=1"),
    ] { #expect(try #require(fault).description.count < 400, "\(fault?.description ?? "")") }
  }

  @Test(arguments: [
    ("hadnet.lamda=1", "--set hadnet.lamda=1: hadnet.lamda is not a known key; did you mean lambda?"),
    ("hatnet.lambda=1", "--set hatnet.lambda=1: hatnet is not a known key; did you mean hadnet?"),
    ("hadnet.rate=-1", "--set hadnet.rate=-1: hadnet.rate must be a number above 0 and at most 1, not -1"),
    ("hadnet.rate=", "--set hadnet.rate=: hadnet.rate must be a number above 0 and at most 1, not empty"),
    ("hadnet=1", "--set hadnet=1: hadnet is a section; set one of its keys, such as hadnet.epochs"),
    ("name.x=1", "--set name.x=1: name has no keys of its own"),
    ("network.k={", "--set network.k={: the value is not valid YAML"),
    (
      "data.split.train=0",
      "--set data.split.train=0: data.split must be counts {train: 7, validation: 2, test: 2} with at least 1 to "
        + "train, proportions {ratio: [200, 66, 69]}, a fold {folds: 5, fold: 0} counted from 0, the name of a file, or a "
        + "fold of one {file: NAME, fold: 0}, not {train: 0}"
    ),
  ])
  func aBadOverrideIsNamed(override: String, sentence: String) {
    let fault = mistake("name: x\n", override)
    #expect(fault?.description == sentence)
    #expect(fault?.kind == .recipe)
  }

  @Test func anOverrideWithoutAValueIsAMatterOfUsage() {
    let fault = mistake("name: x\n", "hadnet.rate")
    #expect(fault == Fault(.usage, "--set hadnet.rate: write it as key=value, e.g. --set hadnet.rate=1e-3"))
  }

  @Test func aMissingOrEmptyRecipeIsMissing() {
    #expect(throws: Fault(.missing, "none.yaml: there is no such recipe")) { try Recipe.load("none.yaml") }
    #expect(mistake("# nothing\n") == Fault(.missing, "demo.yaml is empty"))
  }

  @Test func theFingerprintIsOfAllButTheFolder() {
    var elsewhere = Recipe()
    elsewhere.data.path = "/elsewhere"
    #expect(elsewhere.fingerprint == Recipe().fingerprint && elsewhere.fingerprint.count == 32)
    #expect(elsewhere.difference(from: Recipe()) == nil)
    var other = Recipe()
    other.hadnet.rate = 1e-3
    #expect(other.fingerprint != Recipe().fingerprint)
    #expect(Recipe().difference(from: other) == "hadnet.rate is 0.0002, there 0.001")
  }
}
