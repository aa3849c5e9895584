// One evaluation of a transformer file on a GPU, for dit_error.py to compare with PyTorch's:
// dit_velocity DIT INPUT OUT fp32|bf16, with `latents` [12, T, H, W], `text` [L, width] and `sigma`
// [1], all F32, in INPUT and `velocity` [12, T, H, W] in OUT.
#include <cstdio>
#include <exception>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "dit/dit.h"
#include "io/checkpoint.h"
#include "io/safetensors.h"
#include "support/device_tensors.h"

namespace mochi {
namespace {

Tensor read(const Checkpoint& file, const char* name) {
  Tensor result(DType::kF32, file.info(name).shape);
  file.read(name, result);
  return result;
}

void run(const char* dit_file, const char* input_file, const char* out_file, DType dtype) {
  const std::unique_ptr<Backend> backend =
      make_backend(Device::cuda(), {.activation_dtype = dtype});
  const auto source = Checkpoint::open(dit_file);
  DitWeights weights(infer_dit_config(*source));
  WeightStore store(*backend, dtype);
  store.load(weights, *source);
  const Dit dit(std::move(weights));

  const auto input = Checkpoint::open(input_file);
  const Tensor latents = to_device(*backend, read(*input, "latents"));
  const Tensor text = to_activation(*backend, read(*input, "text"));
  const Shape& shape = latents.view().shape();
  Arena arena(backend->allocator());
  Context ctx{*backend, arena};
  const DitRun dit_run = dit.prepare(*backend, dit.token_grid(shape[1], shape[2], shape[3]));
  const TextCondition condition = dit.condition(ctx, text);
  DensePolicy policy;
  const Tensor velocity(DType::kF32, shape, backend->allocator());
  const DitCall call{.sigma = read(*input, "sigma").view().f32()[0]};
  dit.forward(ctx, dit_run, call, condition, policy, latents, velocity);
  const Tensor host(DType::kF32, shape);
  backend->run(ops::Download{.source = velocity, .host = host});
  const std::span<const std::byte> bytes(host.view().bytes(), host.view().size_bytes());
  write_safetensors(out_file, std::vector<NamedTensor>{{"velocity", DType::kF32, shape, bytes}});
}

}  // namespace
}  // namespace mochi

int main(int argc, char** argv) {
  if (argc != 5) {
    std::fprintf(stderr, "usage: dit_velocity DIT INPUT OUT fp32|bf16\n");
    return 2;
  }
  try {
    const bool is_f32 = std::string_view(argv[4]) == "fp32";
    mochi::run(argv[1], argv[2], argv[3], is_f32 ? mochi::DType::kF32 : mochi::DType::kBF16);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
