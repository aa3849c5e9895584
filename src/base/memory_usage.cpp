#include "base/memory_usage.h"

#include <sys/resource.h>

#include <fstream>
#include <string>

namespace mochi {
namespace {

constexpr std::uint64_t kKibibyte = 1024;

// Returns the bytes of a line "name: 123 kB" in a file of /proc; 0 if it has no such line.
std::uint64_t read_bytes(const char* path, const std::string& name) {
  std::ifstream file(path);
  std::string word;
  while (file >> word) {
    std::uint64_t kibibytes = 0;
    if (word == name && file >> kibibytes) return kibibytes * kKibibyte;
  }
  return 0;
}

}  // namespace

std::uint64_t available_memory_bytes() { return read_bytes("/proc/meminfo", "MemAvailable:"); }

std::uint64_t peak_memory_bytes() {
  // Linux's own figure of this program; getrusage's includes what the process was before exec.
  if (const std::uint64_t peak = read_bytes("/proc/self/status", "VmHWM:"); peak > 0) return peak;
  struct rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * kKibibyte;
}

}  // namespace mochi
