// Writes large files of weights tensor by tensor, so that no more than one is in memory. A file
// appears when it is complete.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

namespace mochi {

struct PlannedTensor {
  std::string name;
  std::string type;  // as the format of the file calls it: "BF16", "F8_E4M3", "Q4_K"
  std::vector<std::int64_t> sizes;
  std::uint64_t num_bytes = 0;
};

using WriteBytesFn = std::function<void(std::span<const std::byte> bytes)>;
// Passes the bytes of a tensor to `write`, in one or several parts.
using ProduceTensorFn = std::function<void(const PlannedTensor& tensor, const WriteBytesFn& write)>;

// Both throw Error if `produce` gives another number of bytes than planned.

// Calls `produce` for the tensors with the widest elements first.
void stream_safetensors(const std::filesystem::path& path, std::vector<PlannedTensor> tensors,
                        const std::map<std::string, std::string>& metadata,
                        const ProduceTensorFn& produce);

struct GgufMetadata {
  std::map<std::string, std::string> strings;
  std::map<std::string, std::uint32_t> numbers;
};

// Calls `produce` for the tensors in their order.
void stream_gguf(const std::filesystem::path& path, const std::vector<PlannedTensor>& tensors,
                 const GgufMetadata& metadata, const ProduceTensorFn& produce);

}  // namespace mochi
