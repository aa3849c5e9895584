#include "pipeline/sampling.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "pipeline/progress_reporter.h"
#include "sparsity/analysis_policy.h"
#include "sparsity/column_sparse_policy.h"

namespace mochi {
namespace {

std::unique_ptr<AttentionPolicy> make_policy(const GenerateRequest& request, const TokenGrid& grid,
                                             const SiteFn& on_site) {
  if (!request.sparsity) return std::make_unique<DensePolicy>();
  if (on_site) {
    return std::make_unique<AnalysisPolicy>(*request.sparsity, grid, request.seed, on_site);
  }
  return std::make_unique<ColumnSparsePolicy>(*request.sparsity, grid, request.seed);
}

std::vector<CachedTensor> save_caches(const AttentionPolicy& policy, Backend& backend) {
  std::vector<CachedTensor> caches;
  for (const PolicyTensor& saved : policy.save(backend)) {
    const TensorView& view = saved.tensor.view();
    const std::span<const std::int64_t> sizes = view.shape().sizes();
    caches.push_back({saved.name,
                      dtype_name(view.dtype()),
                      {sizes.begin(), sizes.end()},
                      {view.bytes(), view.bytes() + view.size_bytes()}});
  }
  return caches;
}

DType parse_cache_dtype(const CachedTensor& cache) {
  for (const DType dtype : {DType::kF32, DType::kBF16, DType::kF8E4M3, DType::kI32}) {
    if (cache.dtype == dtype_name(dtype)) return dtype;
  }
  fail("cached tensor '{}': wanted F32, BF16, F8_E4M3 or I32, found {}", cache.name, cache.dtype);
}

void restore_caches(const std::vector<CachedTensor>& caches, AttentionPolicy& policy,
                    Backend& backend) {
  std::vector<PolicyTensor> tensors;
  for (const CachedTensor& cache : caches) {
    Tensor host(parse_cache_dtype(cache), Shape(std::span(cache.shape)));
    if (host.view().size_bytes() != cache.bytes.size()) {
      fail("cached tensor '{}': wanted {} bytes, found {}", cache.name, host.view().size_bytes(),
           cache.bytes.size());
    }
    std::ranges::copy(cache.bytes, host.view().bytes());
    tensors.push_back({cache.name, std::move(host)});
  }
  policy.restore(backend, tensors);
}

// Of floats of any kind, F32 or BF16, anywhere.
bool is_finite(Backend& backend, const TensorView& tensor) {
  const Tensor host(tensor.dtype(), tensor.shape());
  backend.download(tensor, host);
  if (tensor.dtype() == DType::kF32) {
    return std::ranges::all_of(host.view().f32(), [](float value) { return std::isfinite(value); });
  }
  const auto* const bits = reinterpret_cast<const BFloat16*>(host.view().bytes());
  constexpr std::uint16_t kExponent = 0x7f80;
  return std::all_of(bits, bits + tensor.num_elements(),
                     [](BFloat16 value) { return (value.bits & kExponent) != kExponent; });
}

const char* branch_name(Branch branch) { return branch == Branch::kCond ? "prompt" : "null"; }

class SamplingRun {
 public:
  SamplingRun(Backend& backend, const SamplingInputs& inputs, const TensorView& z, int& num_done)
      : in_(inputs),
        z_(z),
        num_done_(num_done),
        scratch_(backend.allocator()),
        ctx_{backend, scratch_},
        grid_(inputs.model.token_grid(z.dim(1), z.dim(2), z.dim(3))),
        policy_(make_policy(inputs.request, grid_, inputs.control.on_site)) {}

  void run();

 private:
  Backend& backend() { return ctx_.backend; }
  void prepare();
  CacheSizes cache_sizes() const;
  void denoise(const DitCall& call, const TensorView& velocity);
  bool finish_step(ProgressReporter& reporter, int num_done);
  void check_finite(int step);
  [[noreturn]] void fail_not_finite(int step);
  void save_before_failing();

  const SamplingInputs& in_;
  TensorView z_;
  int& num_done_;
  Arena scratch_;
  Context ctx_;
  TokenGrid grid_;
  std::unique_ptr<AttentionPolicy> policy_;
  DitRun run_;
  TextCondition cond_, null_;
  ForwardRecorder recorder_;
  Latents latest_;  // after num_done_ steps, where anybody wants them
  bool has_saved_ = false;
  bool is_in_callback_ = false;  // errors of the caller's own functions are the caller's
};

void SamplingRun::prepare() {
  run_ = in_.model.prepare(backend(), grid_, policy_->token_order(), in_.plan.sigmas);
  cond_ = in_.model.condition(ctx_, in_.features.cond);
  null_ = in_.model.condition(ctx_, in_.features.null);
  const std::string placement =
      policy_->place_caches(backend(), cache_sizes(), backend().memory().available_bytes);
  if (!placement.empty()) log_info("{}", placement);
  if (in_.control.start != nullptr) restore_caches(in_.control.start->caches, *policy_, backend());
  if (in_.control.checks_finite) latest_ = download_latents(backend(), z_);
}

CacheSizes SamplingRun::cache_sizes() const {
  const DitConfig& config = in_.model.config();
  const std::int64_t num_visual = grid_.num_tokens();
  CacheSizes sizes{.num_layers = static_cast<int>(config.depth),
                   .num_heads = config.num_heads,
                   .head_dim = config.head_dim(),
                   .mlp_hidden = config.mlp_hidden_x,
                   .num_tokens = {num_visual + cond_.tokens.view().dim(0), 0}};
  if (in_.plan.needs_null_branch()) {
    sizes.num_tokens[1] = num_visual + null_.tokens.view().dim(0);
  }
  return sizes;
}

void SamplingRun::denoise(const DitCall& call, const TensorView& velocity) {
  in_.model.forward(ctx_, run_, call, call.branch == Branch::kCond ? cond_ : null_, *policy_, z_,
                    velocity);
}

bool SamplingRun::finish_step(ProgressReporter& reporter, int num_done) {
  const SampleControl& control = in_.control;
  if (control.checks_finite) check_finite(num_done - 1);
  if (control.on_checkpoint || control.on_latents || control.checks_finite) {
    latest_ = download_latents(backend(), z_);
  } else {
    backend().synchronize();  // so that the progress is that of the device
  }
  num_done_ = num_done;
  is_in_callback_ = true;
  const bool goes_on = reporter.try_report(num_done);
  if (control.on_latents) control.on_latents(num_done, latest_);
  const bool is_due = control.checkpoint_every > 0 && num_done < in_.plan.num_steps() &&
                      (!goes_on || num_done % control.checkpoint_every == 0);
  if (is_due) {
    control.on_checkpoint({num_done_, latest_, save_caches(*policy_, backend())});
    has_saved_ = true;
  }
  is_in_callback_ = false;
  return goes_on;
}

void SamplingRun::check_finite(int step) {
  if (!is_finite(backend(), z_)) fail_not_finite(step);
}

// Does the step again from the latents before it, looking at every layer.
void SamplingRun::fail_not_finite(int step) {
  const auto at = static_cast<std::size_t>(step);
  upload_latents(backend(), latest_, z_);
  const Tensor velocity(DType::kF32, z_.shape(), backend().allocator());
  for (const Branch branch : {Branch::kCond, Branch::kNull}) {
    if (branch == Branch::kNull && in_.plan.cfgs[at] == 1.0) continue;
    const TextCondition& text = branch == Branch::kCond ? cond_ : null_;
    if (!is_finite(backend(), text.pooled) || !is_finite(backend(), text.tokens)) {
      fail("the text features of the {} branch are not finite", branch_name(branch));
    }
    DitCall call{branch, step, static_cast<float>(in_.plan.sigmas[at])};
    call.on_layer = [&](Branch, std::size_t layer, const TensorView& tokens) {
      if (is_finite(backend(), tokens)) return;
      fail("not finite behind layer {} of the {} branch", layer, branch_name(branch));
    };
    denoise(call, velocity);
  }
  fail("the latents are not finite, though every layer's output is");
}

// The caches of sparsity do not come off a device that has fallen away. Without them a generation
// goes on with full steps; what was saved earlier with its caches is worth more.
void SamplingRun::save_before_failing() {
  const bool is_wanted = in_.control.on_checkpoint && num_done_ > 0 && !latest_.values.empty();
  if (!is_wanted || num_done_ >= in_.plan.num_steps()) return;
  try {
    SamplerState now{num_done_, latest_, {}};
    try {
      now.caches = save_caches(*policy_, backend());
    } catch (const Error& error) {
      if (has_saved_) throw;
      log_warn("saved without the caches of its sparsity, which the next steps make anew: {}",
               error.what());
    }
    in_.control.on_checkpoint(now);
  } catch (const Error& error) {  // the first error is the one that comes out
    log_warn("the last steps are not saved: {}", error.what());
  }
}

void SamplingRun::run() {
  const int first_step = num_done_;
  ProgressReporter reporter(in_.on_progress, Phase::kSampling, in_.plan.num_steps(), "",
                            first_step);
  const auto in_words = [&](const Error& error) {
    return fmt::format("step {} of {}: {}", num_done_ + 1, in_.plan.num_steps(), error.what());
  };
  prepare();
  try {
    const DenoiseFn denoise_at = [&](Branch branch, int step, double sigma, const TensorView&,
                                     const TensorView& velocity) {
      DitCall call{branch, step, static_cast<float>(sigma)};
      call.recorder = &recorder_;
      denoise(call, velocity);
    };
    const StepFn on_step = [&](int num_done) { return finish_step(reporter, num_done); };
    if (!mochi::sample(ctx_, in_.plan, denoise_at, on_step, z_, first_step)) throw Cancelled();
  } catch (const OutOfMemory& error) {
    if (is_in_callback_) throw;
    save_before_failing();
    throw OutOfMemory(in_words(error));
  } catch (const Error& error) {
    if (is_in_callback_) throw;
    save_before_failing();
    throw Error(in_words(error));
  }
}

}  // namespace

void check_start(const SamplerState& start, const Latents& wanted, int num_steps) {
  const Latents& found = start.latents;
  const auto sizes = [](const Latents& latents) {
    return Shape{latents.channels, latents.num_frames, latents.height, latents.width};
  };
  if (sizes(found) != sizes(wanted) || std::ssize(found.values) != sizes(wanted).num_elements()) {
    fail("start: wanted latents {}, found {} values for {}", sizes(wanted).to_string(),
         found.values.size(), sizes(found).to_string());
  }
  if (start.num_steps_done < 1 || start.num_steps_done >= num_steps) {
    fail("start: wanted 1 to {} steps done, found {}", num_steps - 1, start.num_steps_done);
  }
}

void upload_latents(Backend& backend, const Latents& latents, const TensorView& z) {
  const Tensor host(DType::kF32, z.shape());
  std::ranges::copy(latents.values, host.view().f32().begin());
  backend.upload(host, z);
}

Latents download_latents(Backend& backend, const TensorView& z) {
  Latents latents{.values = std::vector<float>(static_cast<std::size_t>(z.shape().num_elements())),
                  .channels = z.dim(0),
                  .num_frames = z.dim(1),
                  .height = z.dim(2),
                  .width = z.dim(3)};
  backend.download(z, TensorView(latents.values.data(), DType::kF32, z.shape()));
  return latents;
}

void run_sampling(Backend& backend, const SamplingInputs& inputs, const TensorView& z,
                  int& num_done) {
  SamplingRun(backend, inputs, z, num_done).run();
}

}  // namespace mochi
