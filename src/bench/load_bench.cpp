// Loads the transformer's weights from a file into the device's memory.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <vector>

#include "base/error.h"
#include "bench/network.h"
#include "dit/dit.h"
#include "pipeline/component.h"

namespace mochi::bench {
namespace {

struct Loaded {
  Loaded(Backend& backend, const MatrixStorage& storage, const TensorSource& source,
         const DitConfig& config)
      : store(backend, storage), weights(config) {
    store.load(weights, source);
    backend.device().synchronize();
  }
  WeightStore store;
  DitWeights weights;
};

// Rounds F32 values as a matrix that was quantised on loading has them.
void round_to_type_of(const MatrixView& matrix, const TensorView& values) {
  const StorageType type = matrix.type();
  const auto* const format = std::get_if<BlockFormat>(&type);
  const bool can_quantise =
      format != nullptr ? can_quantize(*format) : type == StorageType(DType::kF8E4M3);
  if (!is_compact(type) || !can_quantise) return;
  const CompactMatrix compact = to_compact(values.f32(), values.dim(0), type);
  widen_rows(type, compact.elements, compact.scales, values.dim(0), values.f32());
}

// Compares all vectors and the first matrices only, because downloading everything takes long.
double verify_load(Backend& device, const TensorSource& source, DitWeights weights) {
  constexpr int kNumMatrices = 8;
  int num_matrices = 0;
  double largest = 0;
  weights.visit([&](const std::string& name, const WeightMember& member, const Shape& shape,
                    WeightRole role) {
    if (role == WeightRole::kMatrix && ++num_matrices > kNumMatrices) return;
    const Tensor wanted(DType::kF32, shape);
    source.read(name, wanted);
    const MatrixView found = member.get();
    if (source.info(name).type != found.type()) round_to_type_of(found, wanted);
    largest = std::max(largest, relative_error(download_values(device, found), wanted));
  });
  return largest;
}

}  // namespace

void bench_load(Session& session) {
  if (session.request.file.empty()) refuse("file", "wanted a file of a transformer");
  const std::shared_ptr<StoredSource> file =
      find_component(open_weights(session.request.file), Component::kDit);
  if (file == nullptr) refuse("file", "'{}' holds no transformer", session.request.file.string());
  const std::shared_ptr<TensorSource> source = with_original_keys(file, Component::kDit, {});
  const DitConfig config = infer_dit_config(*source);
  const MatrixStorage storage = session.storage();
  Backend& backend = *session.backend;
  Measurement result;
  result.name = "load transformer";
  result.max_error = max_network_error(backend.activation_dtype());  // allows rounding to BF16
  backend.device().restart_peak();
  {
    const Loaded first(backend, storage, *source, config);  // this also brings the file into memory
    result.relative_error = verify_load(backend, *source, first.weights);
    result.weight_bytes = first.store.size_bytes();
    result.peak_bytes = session.peak_bytes();
  }
  std::vector<double> seconds;
  for (int i = 0; i < session.request.num_repetitions; ++i) {
    const auto start = std::chrono::steady_clock::now();
    const Loaded loaded(backend, storage, *source, config);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    seconds.push_back(taken.count());
  }
  std::uint64_t file_bytes = 0;
  for (const std::filesystem::path& path : file->files()) {
    file_bytes += std::filesystem::file_size(path);
  }
  const auto [fastest, slowest] = std::ranges::minmax(seconds);
  result.seconds = median(seconds);
  result.fastest = fastest;
  result.slowest = slowest;
  result.num_repetitions = session.request.num_repetitions;
  result.bytes = static_cast<double>(file_bytes);
  result.size = fmt::format("{:.2f} GB, {} layers", result.bytes * 1e-9, config.depth);
  session.add(std::move(result));
}

}  // namespace mochi::bench
