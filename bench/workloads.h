// Workloads to measure: each holds its inputs, runs once per call, and knows its operation count.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

#include "mochi/mochi.h"
#include "pipeline/networks.h"

namespace mochi::bench {

struct Setup {
  std::filesystem::path model_dir;
  std::string prompt;
  std::uint64_t seed = 0;
  double sigma = 0.75;
  VideoSize size;  // 0: the model's default
};

class Workload {
 public:
  Workload() = default;
  virtual ~Workload() = default;
  Workload(const Workload&) = delete;
  Workload& operator=(const Workload&) = delete;

  virtual std::string name() const = 0;
  virtual double flops() const = 0;
  virtual void run() = 0;
};

// Computes out [rows, n] = x [rows, k]·weight [n, k]ᵀ on normally distributed values.
class GemmWorkload final : public Workload {
 public:
  GemmWorkload(Backend& backend, std::int64_t rows, std::int64_t n, std::int64_t k);
  std::string name() const override;
  double flops() const override;
  void run() override;

 private:
  Backend& backend_;
  Tensor x_, weight_, out_;
};

// Computes one step of the sampler: both branches, without the (tiny) Euler update.
class DitWorkload final : public Workload {
 public:
  DitWorkload(Backend& backend, const ModelDirectory& directory, const Setup& setup,
              const Latents& size);
  std::string name() const override { return "dit"; }
  double flops() const override;
  void run() override;

  const TensorView& text() const { return text_.view(); }        // [tokens, text_width]
  const TensorView& latents() const { return latents_.view(); }  // [channels, T, H, W]
  const TensorView& velocity(Branch branch) const {
    return branch == Branch::kCond ? cond_velocity_.view() : null_velocity_.view();
  }

 private:
  Observer observer_;
  DitNetwork network_;
  Arena scratch_;
  Context ctx_;
  float sigma_;
  Tensor text_, latents_, cond_velocity_, null_velocity_;
  TextCondition cond_, null_;
  DitRun run_;
};

// Decodes latents to RGB bytes, as `mochi generate` does.
class DecodeWorkload final : public Workload {
 public:
  DecodeWorkload(Backend& backend, const ModelDirectory& directory, const Setup& setup,
                 const Latents& size);
  std::string name() const override { return "decode"; }
  double flops() const override;
  void run() override;

  const TensorView& latents() const { return latents_.view(); }
  // Returns the frames before rounding to bytes: [frames, rows, columns, 3], about −1 to 1.
  Tensor decode_frames();

 private:
  Observer observer_;
  DecoderNetwork network_;
  Arena scratch_;
  Context ctx_;
  Tensor latents_;
};

// Returns normally distributed values, a pure function of the seed.
Tensor draw_normal(Backend& backend, const Shape& shape, std::uint64_t seed);

// Returns matmul sizes that show the machine's peak rate: large squares, and the model's shapes.
std::vector<Shape> peak_gemm_sizes();

}  // namespace mochi::bench
