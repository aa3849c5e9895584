// Any bytes as a file of weights. Where the header is accepted, every tensor is looked at and
// converted, and the file is inspected as `mochi inspect` does, which guesses a network's sizes
// from the shapes and recognises the keys and the metadata of a LoRA.
#include <vector>

#include "fuzz_support.h"
#include "io/checkpoint.h"
#include "pipeline/inspect.h"

namespace mochi {
namespace {

// The header's promise: all bytes behind it belong to exactly one tensor.
void check_coverage(const Checkpoint& checkpoint, std::size_t file_bytes) {
  std::size_t num_bytes = 0;
  for (const std::string& name : checkpoint.names()) {
    num_bytes += checkpoint.entry(name).bytes.size();
  }
  require(num_bytes < file_bytes);
}

void read_tensor(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo info = checkpoint.info(name);
  std::size_t num_bytes = 0;
  for (const StoredRows& rows : checkpoint.stored_rows(name)) num_bytes += rows.bytes.size();
  const auto num_elements = static_cast<std::size_t>(info.shape.num_elements());
  require(num_bytes == num_elements * dtype_bytes(info.dtype));
  std::vector<float> values(num_elements);
  checkpoint.read_f32(name, values);
}

void use_checkpoint(const std::shared_ptr<Checkpoint>& checkpoint) {
  for (const std::string& name : checkpoint->names()) {
    expect_result_or_error([&] { read_tensor(*checkpoint, name); });
  }
  expect_result_or_error([&] { inspect_checkpoint(checkpoint, std::nullopt); });
}

}  // namespace

int fuzz(std::span<const std::byte> bytes) {
  std::shared_ptr<Checkpoint> checkpoint;
  if (expect_result_or_error([&] { checkpoint = Checkpoint::from_bytes(bytes, "file"); })) {
    check_coverage(*checkpoint, bytes.size());
    use_checkpoint(checkpoint);
  }
  return 0;
}

}  // namespace mochi
