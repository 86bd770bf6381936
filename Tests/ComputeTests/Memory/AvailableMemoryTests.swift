import Foundation
import Testing

@testable import Compute
@testable import Files
@testable import TestSupport

@Suite struct AvailableMemoryTests {
  private let scratch = Scratch()

  private func put(_ path: String, _ text: String) throws { try scratch.put(path, Array(text.utf8)) }

  private func bytes(_ limits: (space: Int, ofData: Bool)...) -> Int? {
    AvailableMemory(root: scratch.path, limits: limits).bytes
  }

  @Test func theLeastOfAllLimitsCounts() throws {
    #expect(bytes() == nil)
    try put("proc/meminfo", "MemTotal:       900 kB\nMemFree:  10 kB\nMemAvailable:     800 kB\n")
    #expect(bytes() == 800 << 10)
    // What the process has already is part of its limit: pages, of all and of data.
    try put("proc/self/statm", "100 50 20 5 0 60 0\n")
    let page = sysconf(Int32(_SC_PAGESIZE))
    #expect(bytes((100 * page + 4096, false)) == 4096)
    #expect(bytes((100 * page + 4096, false), (60 * page + 64, true)) == 64)
    #expect(bytes((page, false)) == 0)
  }

  /// Ranks on one machine share what it has, and not what each process may take.
  @Test func ofSeveralRanksEachHasItsOwnLimit() throws {
    try put("proc/meminfo", "MemAvailable: 800 kB\n")
    try put("proc/self/statm", "100 50 20 5 0 60 0\n")
    let space = 100 * sysconf(Int32(_SC_PAGESIZE)) + (300 << 10)
    let memory = AvailableMemory(root: scratch.path, limits: [(space, false)])
    #expect(memory.bytes(sharedBy: 2) == 300 << 10 && memory.bytes(sharedBy: 4) == 200 << 10)
  }

  @Test func controlGroupsAndThoseAboveThem() throws {
    try put("proc/meminfo", "MemAvailable: 8000 kB\n")
    try put("proc/self/cgroup", "0::/job/step\n")
    try put("sys/fs/cgroup/job/step/memory.max", "max\n")
    try put("sys/fs/cgroup/job/step/memory.current", "5000\n")
    try put("sys/fs/cgroup/job/memory.max", "90000\n")
    try put("sys/fs/cgroup/job/memory.current", "50000\n")
    #expect(bytes() == 40_000)
    // Pages of files go when memory is wanted.
    try put("sys/fs/cgroup/job/memory.stat", "anon 30000\ninactive_file 1000\nactive_file 200\n")
    #expect(bytes() == 41_200)
    try put("proc/self/cgroup", "5:cpu:/x\n4:memory:/job\n")
    #expect(bytes() == 8000 << 10)
    try put("sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n")
    try put("sys/fs/cgroup/memory/memory.usage_in_bytes", "70\n")
    try put("sys/fs/cgroup/memory/job/memory.limit_in_bytes", "7000\n")
    try put("sys/fs/cgroup/memory/job/memory.usage_in_bytes", "6000\n")
    #expect(bytes() == 1000)
  }

  @Test func whatDoesNotFitIsSaidWithSizes() throws {
    #expect(AvailableMemory.shown(3 << 20) == "3 MiB" && AvailableMemory.shown(12 << 30) == "12 GiB")
    let found = fault { try AvailableMemory.check(1 << 60, "a.nii: a volume") }
    #expect(found?.kind == .invalid)
    #expect(
      found?.description.hasPrefix("a.nii: a volume needs 1073741824 GiB of memory; ") == true,
      "\(String(describing: found))")
    #expect(fault { try AvailableMemory.check(2 << 20, "a.nii: a volume") } == nil)
  }
}
