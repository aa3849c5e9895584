#include "base/memory_usage.h"

#include <sys/resource.h>

#include <fstream>
#include <string>

namespace mochi {

std::uint64_t peak_memory_bytes() {
  constexpr std::uint64_t kKibibyte = 1024;
  // Linux's own figure of this program; getrusage's includes what the process was before exec.
  std::ifstream status("/proc/self/status");
  std::string word;
  while (status >> word) {
    std::uint64_t peak_kib = 0;
    if (word == "VmHWM:" && status >> peak_kib) return peak_kib * kKibibyte;
  }
  struct rusage usage{};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<std::uint64_t>(usage.ru_maxrss) * kKibibyte;
}

}  // namespace mochi
