// Any bytes as a GGUF file. If the header is accepted, every tensor is read, and the file is
// inspected as `mochi inspect` does, which guesses a network's sizes from the shapes.
#include <utility>
#include <vector>

#include "fuzz_support.h"
#include "io/gguf_parts.h"
#include "io/gguf_source.h"
#include "pipeline/inspect.h"

namespace mochi {
namespace {

// Blocks of 16 bits and less hold at most this many elements per byte.
constexpr std::size_t kMaxElementsPerByte = 8;

void read_gguf_tensor(const StoredSource& source, const std::string& name) {
  const TensorInfo info = source.info(name);
  const auto num_elements = static_cast<std::size_t>(info.shape.num_elements());
  require(num_elements <= source.entry(name).bytes.size() * kMaxElementsPerByte);
  std::vector<float> values(num_elements);
  source.read_f32(name, values);
}

}  // namespace

int fuzz(std::span<const std::byte> bytes) {
  std::shared_ptr<StoredSource> source;
  const auto open = [&] {
    auto file = std::make_unique<GgufFile>(bytes, "file");
    expect_result_or_error([&] { read_gguf_split(*file); });
    source = std::make_shared<GgufSource>(std::move(file));
  };
  if (!expect_result_or_error(open)) return 0;
  std::size_t num_bytes = 0;
  for (const std::string& name : source->names()) {
    num_bytes += source->entry(name).bytes.size();
    expect_result_or_error([&] { read_gguf_tensor(*source, name); });
  }
  require(num_bytes < bytes.size());
  expect_result_or_error([&] { inspect_weights(source, std::nullopt); });
  return 0;
}

}  // namespace mochi
