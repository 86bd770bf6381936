// swift-tools-version: 6.2
import PackageDescription

// Kernels are written with SIMD types; without this flag Swift targets baseline x86-64, where a fused
// multiply-add is a function call. OpenBLAS picks AVX-512 by itself at run time.
#if arch(x86_64)
  let architecture = ["-Xcc", "-march=x86-64-v3"]
#else
  let architecture: [String] = []
#endif

let strict: [SwiftSetting] = [
  .treatAllWarnings(as: .error),
  .enableUpcomingFeature("MemberImportVisibility"), .enableUpcomingFeature("ExistentialAny"),
  // A type of one's own that hands out a Span has to say how long it is there.
  .enableExperimentalFeature("Lifetimes"),
  // libnifti has no pkg-config file, and its headers include each other as <…>.
  .unsafeFlags(architecture + ["-Xcc", "-I/usr/include/nifti"]),
]

func settings(of target: Target) -> [SwiftSetting] {
  // Every place that is not memory-safe is marked, with its reason. Not in tests: they look into memory in two hundred places.
  let isTest = target.type == .test || target.path?.hasPrefix("Tests/") == true
  return strict + (isTest ? [] : [.strictMemorySafety()])
}

/// A room of the program: a target whose folder lies beside those of the others.
func room(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
  .target(name: name, dependencies: dependencies, path: "Sources/HADNet/\(name)")
}

let package = Package(
  name: "hadnet-dist",
  products: [.executable(name: "hadnet-dist", targets: ["hadnet-dist"])],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.2"),
    .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
  ],
  targets: [
    .systemLibrary(name: "CMPI", pkgConfig: "mpi-c", providers: [.apt(["libopenmpi-dev"])]),
    .systemLibrary(name: "COpenBLAS", pkgConfig: "openblas", providers: [.apt(["libopenblas-dev"])]),
    .systemLibrary(name: "CNIfTI", providers: [.apt(["libnifti-dev"])]),
    .systemLibrary(name: "CPNG", pkgConfig: "libpng", providers: [.apt(["libpng-dev"])]),
    .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
    .target(name: "CMachine"),
    .target(name: "Terminal"),
    .target(name: "Collective", dependencies: ["CMPI", "CMachine", "Terminal"]),
    room("Files", ["Terminal", "CXXHash"]),
    room("Compute", ["Terminal", "Collective", "Files", "CMachine", "COpenBLAS"]),
    room("Imaging", ["Terminal", "Files", "Compute", "CNIfTI"]),
    room("Networks", ["Files", "Compute", "Imaging"]),
    room("Evaluation", ["Terminal", "Collective", "Files", "Compute", "Imaging"]),
    room("Inference", ["Collective", "Files", "Compute", "Imaging", "Networks", "Evaluation"]),
    room("Learning", ["Terminal", "Collective", "Files", "Compute", "Imaging", "Networks", "Yams"]),
    room("Methods", ["Collective", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Learning"]),
    room(
      "Study",
      [
        "Terminal", "Collective", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Inference",
        "Learning", "Methods", "Yams",
      ]),
    room(
      "Report",
      [
        "Terminal", "Files", "Compute", "Imaging", "Evaluation", "Inference", "Learning", "Methods", "Study",
        "CPNG",
      ]),
    room(
      "Checks",
      ["Collective", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Learning", "Methods"]),
    .executableTarget(
      name: "hadnet-dist",
      dependencies: [
        "Terminal", "Collective", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Inference",
        "Learning", "Methods", "Study", "Report", "Checks", "CMachine",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      // A link to slurm/run.sh, whose text `slurm` prints.
      resources: [.embedInCode("run.sh")]),
    .executableTarget(name: "Ranks", dependencies: ["Collective", "CMachine"], path: "Tests/Ranks"),
    .testTarget(name: "TerminalTests", dependencies: ["Terminal"]),
    .testTarget(name: "CollectiveTests", dependencies: ["Collective", "Ranks"]),
    .testTarget(name: "FilesTests", dependencies: ["TestSupport", "Files"]),
    .testTarget(name: "ComputeTests", dependencies: ["TestSupport", "Files", "Compute", "Networks"]),
    .testTarget(
      name: "ImagingTests", dependencies: ["TestSupport", "Files", "Compute", "Imaging", "CNIfTI"]),
    .testTarget(
      name: "NetworksTests",
      dependencies: ["TestSupport", "Files", "Compute", "Imaging", "Networks"]),
    .testTarget(
      name: "EvaluationTests",
      dependencies: [
        "TestSupport", "Collective", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Learning",
        "Methods",
      ]),
    .testTarget(
      name: "InferenceTests",
      dependencies: [
        "TestSupport", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Inference", "Collective",
      ]),
    .testTarget(
      name: "LearningTests",
      dependencies: [
        "TestSupport", "Collective", "Files", "Compute", "Imaging", "Networks", "Learning", "Yams",
      ]),
    .testTarget(
      name: "MethodsTests",
      dependencies: [
        "TestSupport", "Collective", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Learning",
        "Methods", "Study",
      ]),
    .testTarget(
      name: "StudyTests",
      dependencies: [
        "TestSupport", "Collective", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Inference",
        "Learning", "Methods", "Study",
      ]),
    .testTarget(
      name: "ReportTests",
      dependencies: [
        "TestSupport", "Collective", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Inference",
        "Learning", "Methods", "Study", "Report", "CPNG",
      ]),
    .testTarget(
      name: "ChecksTests",
      dependencies: [
        "TestSupport", "Collective", "Files", "Compute", "Imaging", "Networks", "Learning", "Methods",
        "Checks",
      ]),
    .testTarget(
      name: "CommandTests",
      dependencies: [
        "Files", "Compute", "Imaging", "Evaluation", "Learning", "Methods", "Study", "hadnet-dist",
      ]),
    // What the tests of several rooms need.
    .testTarget(
      name: "TestSupport",
      dependencies: [
        "Files", "Compute", "Imaging", "Networks", "Evaluation", "Learning", "Methods", "CNIfTI",
      ],
      path: "Tests/Support"),
  ],
  swiftLanguageModes: [.v6]
)

for target in package.targets where target.type != .system && target.name != "CMachine" {
  target.swiftSettings = settings(of: target)
}

// `make docs`: the plugin that builds the pages. Who only builds the program need not fetch it.
if Context.environment["HADNET_DOCS"] != nil {
  package.dependencies.append(.package(url: "https://github.com/swiftlang/swift-docc-plugin", from: "1.5.0"))
}

// `make fuzz`: libFuzzer over all that reads files. Its `main` and ours are both there; ours comes first.
if Context.environment["HADNET_FUZZ"] != nil {
  let sanitizers = "-sanitize=fuzzer,address"
  package.targets.append(
    .executableTarget(
      name: "Fuzz",
      dependencies: [
        "Terminal", "Files", "Compute", "Imaging", "Networks", "Evaluation", "Methods", "Study", "Report",
      ],
      path: "Tests/Fuzz", exclude: ["corpus"],
      swiftSettings: strict,
      linkerSettings: [
        .unsafeFlags([sanitizers, "-use-ld=lld", "-Xlinker", "-z", "-Xlinker", "muldefs"])
      ]))
  for target in package.targets where target.type == .regular || target.name == "Fuzz" {
    // The allocator asks whether a sanitizer has one of its own.
    if target.name == "CMachine" {
      target.cSettings = [.unsafeFlags(["-fsanitize=address"])]
    } else {
      target.swiftSettings = settings(of: target) + [.unsafeFlags([sanitizers])]
    }
  }
}
