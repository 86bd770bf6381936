import Foundation

@testable import Compute
@testable import Evaluation
@testable import Files
@testable import Imaging
@testable import Networks
@testable import Study

/// Small inputs that the parsers take, made by the program itself where it writes such files, and inputs that were once
/// taken badly.
func seeds() throws -> [(parser: Parser, name: String, content: Data)] {
  let scratch = "/dev/shm/hadnet-seeds-\(getpid())"
  try AtomicFile.makeFolder(scratch)
  defer { try? FileManager.default.removeItem(atPath: scratch) }
  var seeds: [(parser: Parser, name: String, content: Data)] = []
  func add(_ parser: Parser, _ name: String, _ content: Data) { seeds.append((parser, name, content)) }
  func add(_ parser: Parser, _ name: String, _ text: String) { add(parser, name, Data(text.utf8)) }
  func written(_ name: String, _ write: (String) throws -> Void) throws -> Data {
    try write("\(scratch)/\(name)")
    return try Data(contentsOf: URL(fileURLWithPath: "\(scratch)/\(name)"))
  }

  // NIfTI
  let affine: [Double] = [-1, 0, 0, 0, 0, -1, 0, 239, 0, 0, 1, 0, 0, 0, 0, 1]
  let voxels = (0..<24).map { Int16($0 % 3) }
  var plain = Data()
  for name in ["a.nii", "a.nii.gz"] {
    let file = try written(name) {
      try NIfTIImage.write(voxels, dimensions: [4, 3, 2], affine: affine, to: $0)
    }
    if name == "a.nii" { plain = file }
    add(.nifti, name, file)
  }
  add(
    .nifti, "float.nii",
    try written("f.nii") {
      try NIfTIImage.write(voxels.map(Float.init), dimensions: [2, 3, 4], affine: affine, to: $0)
    })
  func edited(_ file: Data, _ at: Int, _ bytes: [UInt8]) -> Data {
    var file = file
    file.replaceSubrange(at..<at + bytes.count, with: bytes)
    return file
  }
  func little(_ value: Float) -> [UInt8] { withUnsafeBytes(of: value.bitPattern.littleEndian) { Array($0) } }
  add(.nifti, "flipped.nii", edited(plain, 280, little(1)))
  add(.nifti, "large.nii", edited(plain, 42, [0x20, 3, 0x20, 3, 0x20, 3]))  // 800³
  add(.nifti, "offset.nii", edited(plain, 108, little(0x1p31)))
  add(.nifti, "scaled.nii", edited(plain, 112, little(0.5) + little(-3)))
  for code: UInt8 in [2, 8, 16, 64] { add(.nifti, "type\(code).nii", edited(plain, 70, [code, 0])) }

  // Networks
  let brats = TaskPreset.brats.task
  add(.task, "brats", brats.json)
  let unet = UNet(inputs: 3, k: 1, classes: brats.classCount)
  let metadata = Model.Metadata(
    method: "HAD-Net", k: 1, dropout: 0.2, sequences: brats.present, size: Size(32, 32, 32),
    preparation: Preparation(brats, modalities: brats.present, readsTruth: false))
  let model = try written("m.safetensors") { path in
    try Model(metadata, .unet(unet), ParameterVector(zeros: unet.layout)).writer.write(to: path, as: path)
  }
  add(.model, "unet", model)
  var layout = ParameterLayout()
  _ = layout.add("a.weight", 2, 3)
  _ = layout.add("b", 1)
  let tensors = try written("t.safetensors") { path in
    try Safetensors.Writer([.init("x.", ParameterVector(zeros: layout))], metadata: ["k": "2"])
      .write(to: path, as: path)
  }
  add(.safetensors, "two", tensors)
  func file(_ header: String, _ count: Int) -> Data {
    withUnsafeBytes(of: UInt64(header.utf8.count).littleEndian) { Data($0) } + Data(header.utf8)
      + Data(count: count)
  }
  add(
    .safetensors, "overlap",
    file(
      #"{"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]}}"#,
      12))
  add(.safetensors, "kinds", file(#"{"a":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}}"#, 8))

  // A run's files
  let state =
    #"{"contents":{"files":{},"recipe":"r","state":{"epoch":-1,"history":[],"stage":"student","step":9223372036854775807,"updates":{}},"version":1},"xxh3":"0"}"#
  add(.checkpoint, "forged", state)
  add(.split, "own", #"{"train": ["A", "B"], "validation": ["C"], "test": ["D"]}"#)
  add(.split, "folds", #"[{"train": ["A", "B"], "val": ["C"]}, {"train": ["C"], "val": ["A"]}]"#)
  var history = History(columns: [
    "epoch", "rate", "loss", "accuracy", "distance_1", "wt", "tc", "et", "score",
  ])
  history.append([1, 2e-4, 0.5, 0.7, 3, 0.1, 0.2, 0.3, 0.4])
  history.append([2, 1e-4, 0.25, 0.8, 2, nil, nil, nil, nil])
  add(.history, "own", history.csv)
  add(.history, "extremes", "epoch,rate,loss\n1,1e308,nan\n2,-inf,5e-324\n")
  let numbers = Array(repeating: 0.5, count: 15 * 3)
  add(.curves, "own", MeanCurves(dealt: [numbers], cases: 1, brats.regions, [0, 50, 100])?.csv ?? "")
  var scores = CaseScores()
  for region in brats.regions { for metric in Metric.allCases { scores[region, metric] = 0.5 } }
  let evaluation = MethodEvaluation(
    method: "HAD-Net", regions: brats.regions, settings: Evaluator(brats).settings(hasMaps: true),
    cases: ["A": scores, "B": scores])
  add(.evaluation, "own", evaluation.json)
  add(.landmarks, "published", Landmarks.published.json)
  add(.grades, "own", "Grade,BraTS_2020_subject_ID\nHGG,BraTS20_Training_001\nLGG,BraTS20_Training_002\n")
  try plain.write(to: URL(fileURLWithPath: "\(scratch)/plain.nii"))
  let placement = Placement(
    try NIfTIHeader.read("\(scratch)/plain.nii"), VoxelBox(origin: Size(0, 0, 0), size: Size(1, 2, 2)),
    Size(1, 2, 2))
  let prepared = PreparedCase(
    id: "A", images: Volume(zeros: Shape(Size(1, 2, 2), 4)), labels: nil, mask: [0, 1, 1, 0],
    placement: placement)
  add(.prepared, "own", try written("p.case") { try CaseFile.write(prepared, fingerprint: "f", to: $0) })

  // Recipes
  add(.recipe, "all", Recipe().yaml)
  add(
    .recipe, "short",
    "name: r\nseed: 3\ndata:\n  split: {train: 7, validation: 3, test: 3}\nnetwork: {k: 2}\n")
  let letters = Array("abcdefghi")
  var bomb = "a: &a [\"lol\",\"lol\",\"lol\",\"lol\",\"lol\",\"lol\",\"lol\",\"lol\",\"lol\"]\n"
  for (one, next) in zip(letters, letters.dropFirst()) {
    bomb += "\(next): &\(next) [\(Array(repeating: "*\(one)", count: 9).joined(separator: ","))]\n"
  }
  add(.recipe, "aliases", bomb + "batch: *i\n")
  add(.override, "split", "data.split={ratio: [3, 1, 1]}\0data.split.train=5\0data.allow_leak=true")
  add(.override, "two", "hadnet.rate=1e-3\0data.split={train: 3, validation: 1}")
  for (i, name) in ["epoch-0007", "epoch-0007-step-0012", "BraTS-GLI-00002-000", "=1+\u{1B}[2J"].enumerated()
  {
    add(.names, "\(i)", name)
  }
  return seeds
}
