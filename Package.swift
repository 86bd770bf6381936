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
  // libnifti has no pkg-config file, and its headers include each other as <…>.
  .unsafeFlags(architecture + ["-Xcc", "-I/usr/include/nifti"]),
]

// Targets in which every place that is not memory-safe is marked.
let memorySafe: Set = ["Collective"]

func settings(of target: Target) -> [SwiftSetting] {
  strict + (memorySafe.contains(target.name) ? [.strictMemorySafety()] : [])
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
    .systemLibrary(name: "CMachine"),
    .target(name: "CAllocator"),
    .target(name: "Terminal"),
    .target(name: "Collective", dependencies: ["CMPI", "CMachine", "Terminal"]),
    .target(
      name: "HADNet",
      dependencies: ["Terminal", "Collective", "CMachine", "COpenBLAS", "CNIfTI", "CPNG", "CXXHash", "Yams"]),
    .executableTarget(
      name: "hadnet-dist",
      dependencies: [
        "HADNet", "CAllocator", "CMachine", "COpenBLAS",
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ],
      // A link to slurm/run.sh, whose text `slurm` prints.
      resources: [.embedInCode("run.sh")]),
    .executableTarget(name: "Ranks", dependencies: ["Collective", "CMachine"], path: "Tests/Ranks"),
    .testTarget(name: "TerminalTests", dependencies: ["Terminal"]),
    .testTarget(name: "CollectiveTests", dependencies: ["Collective", "Ranks"]),
    .testTarget(name: "HADNetTests", dependencies: ["HADNet"]),
    .testTarget(name: "CommandTests", dependencies: ["HADNet", "hadnet-dist"]),
  ],
  swiftLanguageModes: [.v6]
)

for target in package.targets where target.type != .system && target.name != "CAllocator" {
  target.swiftSettings = settings(of: target)
}

// `make fuzz`: libFuzzer over all that reads files. Its `main` and ours are both there; ours comes first.
if Context.environment["HADNET_FUZZ"] != nil {
  let sanitizers = "-sanitize=fuzzer,address"
  package.targets.append(
    .executableTarget(
      name: "Fuzz", dependencies: ["HADNet", "Terminal"], path: "Tests/Fuzz", exclude: ["corpus"],
      swiftSettings: strict,
      linkerSettings: [
        .unsafeFlags([sanitizers, "-use-ld=lld", "-Xlinker", "-z", "-Xlinker", "muldefs"])
      ]))
  for target in package.targets where ["Fuzz", "HADNet", "Collective", "Terminal"].contains(target.name) {
    target.swiftSettings = settings(of: target) + [.unsafeFlags([sanitizers])]
  }
}
