import Testing
import Yams

@testable import Files
@testable import Imaging
@testable import Learning

@Suite struct TaskFormTests {
  private let form = RecipeValue<TaskRequest>.task

  private func node(_ yaml: String) throws -> Node { try #require(try Yams.compose(yaml: yaml)) }

  @Test func aPresetIsWrittenAsItsName() throws {
    for preset in [TaskPreset.brats, .africa] {
      let task = try #require(form.read(node(preset.rawValue)))
      #expect(task == .whole(preset.task) && form.text(task) == preset.rawValue)
    }
  }

  /// Reading what is written gives the same task, and the same text again.
  @Test(arguments: [
    "{preset: brats, read_as: {5: ED, 7: background}}",
    "{preset: brats, regions: {tumour: [NET, ED, ET], core: [NET, ET]}, score: [core], detect: tumour}",
    "{preset: brats, classes: {a: 1, b: 2, \"c d\": 9}, regions: {all: [a, b, c d], c d: [c d]}}",
    "{sequences: [flair, t1ce, t1, t2], missing: [t1ce], classes: {PZ: 1, TZ: 2, lesion: 3}, "
      + "regions: {gland: [PZ, TZ, lesion], lesion: [lesion]}}",
    "{missing: [t2, dwi], read_as: {9: ignore}, score: [a b], detect: c}",
    "{preset: brats2024, missing: [t1, t2], read_as: {255: ignore}}",
  ]) func whatIsWrittenIsRead(yaml: String) throws {
    let task = try #require(form.read(node(yaml)))
    let text = form.text(task), again = try #require(form.read(node(text)), "\(text)")
    #expect(again == task && form.text(again) == text)
  }

  @Test(arguments: [
    ("{preset: brats,\n sequence: [a]}", 2, "sequence is not a known key"),
    ("{preset: brats19}", 1, "preset must be one of brats, brats2024, brats-ped, brats-ssa, brats-met"),
    ("{sequences: [a, b]}", 1, "missing is missing, and no preset gives it"),
    ("{preset: brats,\n missing: [t3]}", 2, "missing has t3, which is none of the sequences"),
    ("{preset: brats,\n regions: {a: [NET]}}", 2, "regions has ED in none"),
    ("{preset: brats,\n read_as: {4: background}}", 2, "read_as has 4, which stands for a class already"),
    ("{preset: brats,\n classes: {a: 0}, regions: {b: [a]}}", 2, "classes gives a the value 0"),
    ("{preset: brats, classes: {a: 1, b: 2, c: 3}}", 1, "regions is missing, and no preset gives it"),
  ]) func aMistakeIsToldWithItsLine(yaml: String, line: Int, words: String) throws {
    let node = try node(yaml)
    #expect(form.read(node) == nil)
    let mistake = try #require(form.mistake(node))
    #expect(mistake.line == line && mistake.words.hasPrefix(words), "\(mistake.words)")
  }
}
