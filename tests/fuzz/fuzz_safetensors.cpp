// Any bytes as a file of weights: opened, every tensor looked at and converted, and inspected as
// `mochi inspect` does, which guesses a network's sizes from the shapes.
#include <vector>

#include "base/parallel_for.h"
#include "fuzz_support.h"
#include "io/checkpoint.h"
#include "mochi/inspect.h"

namespace mochi {
namespace {

// The header's promise: all bytes behind it belong to exactly one tensor.
void check_coverage(const SafetensorsFile& file, std::size_t file_bytes) {
  std::size_t num_bytes = 0;
  for (const auto& [name, entry] : file.entries()) num_bytes += entry.bytes.size();
  if (num_bytes >= file_bytes) std::abort();
}

void read_tensor(const Checkpoint& checkpoint, const std::string& name) {
  const TensorInfo info = checkpoint.info(name);
  std::size_t num_bytes = 0;
  for (const StoredRows& rows : checkpoint.stored_rows(name)) num_bytes += rows.bytes.size();
  const auto num_elements = static_cast<std::size_t>(info.shape.num_elements());
  if (num_bytes != num_elements * dtype_bytes(info.dtype)) std::abort();
  std::vector<float> values(num_elements);
  checkpoint.read_f32(name, values);
}

void fuzz(std::span<const std::uint8_t> bytes) {
  const MemoryFile file(bytes);
  expect_result_or_error([&] {
    check_coverage(SafetensorsFile(file.path()), bytes.size());
    const auto checkpoint = Checkpoint::open(file.path());
    for (const std::string& name : checkpoint->names()) {
      expect_result_or_error([&] { read_tensor(*checkpoint, name); });
    }
    expect_result_or_error([&] { inspect_model(file.path()); });
  });
}

}  // namespace
}  // namespace mochi

extern "C" int LLVMFuzzerInitialize(int* /*argc*/, char*** /*argv*/) {
  mochi::set_num_threads(1);
  return 0;
}

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  mochi::fuzz({data, size});
  return 0;
}
