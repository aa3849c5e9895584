#include "pipeline/video_sampling.h"

#include <algorithm>
#include <cmath>
#include <exception>
#include <iterator>
#include <new>
#include <numeric>
#include <span>
#include <type_traits>
#include <utility>

#include "base/error.h"
#include "base/parallel_for.h"
#include "pipeline/product_probe.h"
#include "pipeline/progress_reporter.h"
#include "pipeline/request.h"
#include "pipeline/skipping_run.h"
#include "pipeline/step_cache.h"
#include "sparsity/analysis_policy.h"
#include "sparsity/column_sparse_policy.h"
#include "sparsity/schedule.h"

namespace mochi {
namespace {

// A policy, and the state that it holds, if it holds one.
struct PolicyOfSampling {
  std::unique_ptr<BlockPolicy> blocks;
  GenerationState* state = nullptr;
};

PolicyOfSampling make_policy(const std::optional<SparsityConfig>& sparsity, const TokenGrid& grid,
                             std::uint64_t seed, const SiteFn& on_site) {
  if (!sparsity) return {std::make_unique<DensePolicy>()};
  std::unique_ptr<ColumnSparsePolicy> policy =
      on_site ? std::make_unique<AnalysisPolicy>(*sparsity, grid, seed, on_site)
              : std::make_unique<ColumnSparsePolicy>(*sparsity, grid, seed);
  GenerationState* const state = policy.get();
  return {std::move(policy), state};
}

// Null if every step is evaluated. `evaluated_steps` are those of SampleOptions.
std::unique_ptr<SkippingRun> make_skipping(const std::optional<SparsityConfig>& sparsity,
                                           const std::set<int>& evaluated_steps,
                                           const StepPlan& plan, Backend& backend,
                                           const Shape& shape, std::optional<SkipProbe> probe) {
  if (!sparsity || sparsity->step_skipping.rule == SkipRule::kOff) return nullptr;
  StepSkipping config = sparsity->step_skipping;
  if (!evaluated_steps.empty()) {
    config.rule = SkipRule::kSchedule;
    config.evaluated_steps = evaluated_steps;
  }
  StepSkipper skipper(std::move(config), plan.sigmas,
                      list_needed_steps(*sparsity, plan.num_steps()));
  return std::make_unique<SkippingRun>(std::move(skipper), backend, shape, plan.needs_null_branch(),
                                       std::move(probe));
}

std::vector<CachedTensor> to_caches(const std::vector<StateTensor>& tensors) {
  std::vector<CachedTensor> caches;
  for (const StateTensor& saved : tensors) {
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

std::vector<StateTensor> from_caches(const std::vector<CachedTensor>& caches) {
  std::vector<StateTensor> tensors;
  for (const CachedTensor& cache : caches) {
    Tensor host(parse_cache_dtype(cache), Shape(std::span(cache.shape)));
    if (host.view().size_bytes() != cache.bytes.size()) {
      fail("cached tensor '{}': wanted {} bytes, found {}", cache.name, host.view().size_bytes(),
           cache.bytes.size());
    }
    std::ranges::copy(cache.bytes, host.view().bytes());
    tensors.push_back({cache.name, std::move(host)});
  }
  return tensors;
}

bool is_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float value) { return std::isfinite(value); });
}

// For F32 and BF16 tensors on any device.
bool is_finite(Backend& backend, const TensorView& tensor) {
  const Tensor host(tensor.dtype(), tensor.shape());
  backend.run(ops::Download{.source = tensor, .host = host});
  if (tensor.dtype() == DType::kF32) return is_finite(host.view().f32());
  const auto* const bits = reinterpret_cast<const BFloat16*>(host.view().bytes());
  constexpr std::uint16_t kExponent = 0x7f80;
  return std::all_of(bits, bits + tensor.num_elements(),
                     [](BFloat16 value) { return (value.bits & kExponent) != kExponent; });
}

const char* branch_name(Branch branch) { return branch == Branch::kCond ? "prompt" : "null"; }

class VideoSampling final : public StepView {
 public:
  VideoSampling(Backend& backend, const VideoSamplingInputs& inputs, const TensorView& z,
                int& num_steps_done)
      : in_(inputs),
        z_(z),
        num_done_(num_steps_done),
        should_stop_([this] { return call_observer([&] { return in_.observer.should_stop(); }); }),
        scratch_(backend.allocator()),
        ctx_{backend, scratch_, &should_stop_},
        grid_(inputs.model.token_grid(z.dim(1), z.dim(2), z.dim(3))),
        sparsity_(fit_schedules(inputs.request).sparsity),
        policy_(make_policy(sparsity_, grid_, inputs.request.seed, site_fn())) {}

  Latents run();

  // StepView
  int num_done() const override { return num_done_; }
  int num_steps() const override { return in_.plan.num_steps(); }
  const Latents& latents() const override { return latest_; }
  std::vector<int> evaluated_steps() const override;
  std::optional<SamplerState> state() const override;

 private:
  Backend& backend() const { return ctx_.backend; }
  // Errors of the observer's functions pass unchanged.
  template <typename Call>
  std::invoke_result_t<const Call&> call_observer(const Call& call) {
    is_in_observer_ = true;  // and stays so if the observer throws
    if constexpr (std::is_void_v<decltype(call())>) {
      call();
      is_in_observer_ = false;
    } else {
      auto result = call();
      is_in_observer_ = false;
      return result;
    }
  }
  // Returns true while a step rewrites the state.
  bool has_changed() const;
  SiteFn site_fn();
  // Returns nothing unless the observer wants to know of skipped steps.
  std::optional<SkipProbe> make_probe();
  std::unique_ptr<ProductProbe> make_product_probe();
  void prepare();
  void allocate_state();
  void restore(const std::vector<CachedTensor>& caches);
  StateSizes state_sizes() const;
  const TextCondition& text_of(Branch branch) const {
    return branch == Branch::kCond ? cond_ : null_;
  }
  void denoise(const DitCall& call, BlockPolicy& policy, const TensorView& velocity);
  void evaluate(DitCall& call, const TensorView& velocity);
  void begin_step();
  void tell_evaluations(ProgressReporter& reporter) const;
  // Returns true if sampling continues.
  bool finish_step(ProgressReporter& reporter, int num_done);
  // Throws NotFinite naming the layer that the values of this step come from.
  [[noreturn]] void locate_not_finite(int step);
  void run_steps(ProgressReporter& reporter);
  // Lets the observer keep the state for the last time.
  void interrupt();
  // Throws the error that is being handled, with the step that it belongs to.
  [[noreturn]] void rethrow_in_words() const;
  std::string in_words(const char* message) const {
    return fmt::format("step {} of {}: {}", num_done_ + 1, num_steps(), message);
  }

  const VideoSamplingInputs& in_;
  TensorView z_;
  int& num_done_;
  StopFn should_stop_;
  Arena scratch_;
  Context ctx_;
  TokenGrid grid_;
  std::optional<SparsityConfig> sparsity_;  // its schedules name the steps of this sampling
  PolicyOfSampling policy_;
  std::unique_ptr<StepCache> step_cache_;  // null without a sparsity configuration
  std::unique_ptr<SkippingRun> skipping_;  // null if every step is evaluated
  DitRun run_;
  TextCondition cond_, null_;
  std::unique_ptr<ProductProbe> product_probe_;  // null unless the observer wants it
  ForwardRecorder recorder_;
  Latents latest_;  // after num_done_ steps
  int first_step_ = 0;
  bool is_in_observer_ = false;
};

SiteFn VideoSampling::site_fn() {
  if (!in_.observer.wants_sites()) return {};
  return [this](const SiteReport& site) {
    const StopFn never;
    const StopScope no_stop(never);
    call_observer([&] { in_.observer.on_site(site); });
  };
}

// The policy of the sampling would change its caches. Dense attention has none, and sees the tokens
// in any order.
std::optional<SkipProbe> VideoSampling::make_probe() {
  if (!in_.observer.wants_skips()) return std::nullopt;
  const DenoiseFn denoise_dense = [this](Branch branch, int step, double sigma, const TensorView&,
                                         const TensorView& velocity) {
    DensePolicy dense;
    denoise({branch, step, static_cast<float>(sigma)}, dense, velocity);
  };
  return SkipProbe(denoise_dense, [this](const SkipReport& skip) {
    call_observer([&] { in_.observer.on_skip(skip); });
  });
}

std::unique_ptr<ProductProbe> VideoSampling::make_product_probe() {
  if (!in_.observer.wants_products() || in_.model.is_streamed()) return nullptr;
  return std::make_unique<ProductProbe>(backend(), in_.model);
}

bool VideoSampling::has_changed() const {
  return (policy_.state != nullptr && policy_.state->has_changed()) ||
         (step_cache_ && step_cache_->has_changed()) || (skipping_ && skipping_->has_changed());
}

std::optional<SamplerState> VideoSampling::state() const {
  if (num_done_ < 1 || num_done_ >= num_steps() || has_changed()) return std::nullopt;
  try {
    std::vector<StateTensor> tensors;
    if (policy_.state != nullptr) tensors = policy_.state->save(backend());
    if (step_cache_) std::ranges::move(step_cache_->save(backend()), std::back_inserter(tensors));
    if (skipping_) std::ranges::move(skipping_->save(backend()), std::back_inserter(tensors));
    return SamplerState{num_done_, latest_, to_caches(tensors)};
  } catch (const OutOfMemory&) {
    throw;
  } catch (const Error&) {  // a device that was lost gives nothing back
    return std::nullopt;
  }
}

void VideoSampling::prepare() {
  const StopScope stop(should_stop_);
  run_ = in_.model.prepare(backend(), grid_, policy_.blocks->token_order(), in_.plan.sigmas);
  cond_ = in_.model.condition(ctx_, in_.features.cond);
  null_ = in_.model.condition(ctx_, in_.features.null);
  allocate_state();
  skipping_ = make_skipping(sparsity_, in_.options.evaluated_steps, in_.plan, backend(), z_.shape(),
                            make_probe());
  product_probe_ = make_product_probe();
  if (in_.options.start != nullptr) restore(in_.options.start->caches);
  latest_ = download_latents(backend(), z_);
}

void VideoSampling::allocate_state() {
  if (!sparsity_) return;
  const std::string placement = policy_.state->allocate(
      backend(), state_sizes(), backend().device().memory().available_bytes, in_.on_message);
  if (!placement.empty() && in_.on_message) in_.on_message(MessageLevel::kInfo, placement);
  step_cache_ = std::make_unique<StepCache>(
      *sparsity_, backend(), Shape{grid_.num_tokens(), in_.model.config().hidden_size_x},
      in_.plan.needs_null_branch());
}

void VideoSampling::restore(const std::vector<CachedTensor>& caches) {
  std::vector<StateTensor> tensors = from_caches(caches);
  // Moves the tensors of a part of the state out of the list.
  const auto take = [&](auto owns) {
    const auto rest = std::ranges::stable_partition(
        tensors, [&](const StateTensor& tensor) { return !owns(tensor.name); });
    std::vector<StateTensor> taken(std::make_move_iterator(rest.begin()),
                                   std::make_move_iterator(rest.end()));
    tensors.erase(rest.begin(), rest.end());
    return taken;
  };
  // A state that a failed run left has latents alone; its next step is evaluated.
  if (skipping_) {
    const std::vector<StateTensor> of_skipping = take(SkippingRun::owns);
    if (!of_skipping.empty()) skipping_->restore(backend(), of_skipping);
  }
  if (step_cache_) step_cache_->restore(backend(), take(StepCache::owns));
  if (policy_.state != nullptr) policy_.state->restore(backend(), tensors);
}

std::vector<int> VideoSampling::evaluated_steps() const {
  if (skipping_) return skipping_->evaluated_steps();
  std::vector<int> all(static_cast<std::size_t>(num_done_));
  std::iota(all.begin(), all.end(), 0);
  return all;
}

StateSizes VideoSampling::state_sizes() const {
  const DitConfig& config = in_.model.config();
  const std::int64_t num_visual = grid_.num_tokens();
  StateSizes sizes{.num_layers = static_cast<int>(config.depth),
                   .num_heads = config.num_heads,
                   .head_dim = config.head_dim(),
                   .mlp_hidden = config.mlp_hidden_x,
                   .mlp_dtype = in_.model.mlp_dtype(),
                   .num_tokens = {num_visual + cond_.tokens.view().dim(0), 0}};
  if (in_.plan.needs_null_branch()) {
    sizes.num_tokens[1] = num_visual + null_.tokens.view().dim(0);
  }
  return sizes;
}

void VideoSampling::denoise(const DitCall& call, BlockPolicy& policy, const TensorView& velocity) {
  const StopScope stop(should_stop_);
  in_.model.forward(ctx_, run_, call, text_of(call.branch), policy, z_, velocity);
}

// With the policy and the caches of the sampling.
void VideoSampling::evaluate(DitCall& call, const TensorView& velocity) {
  if (step_cache_) step_cache_->prepare(call);
  if (product_probe_ == nullptr || !product_probe_->wants(call.step, num_steps())) {
    return denoise(call, *policy_.blocks, velocity);
  }
  const StopScope stop(should_stop_);
  Context ctx{*product_probe_, scratch_, &should_stop_};
  DitCall measured = call;
  measured.recorder = nullptr;
  in_.model.forward(ctx, run_, measured, text_of(call.branch), *policy_.blocks, z_, velocity);
  product_probe_->report(call.step, call.branch, [this](const ProductReport& product) {
    call_observer([&] { in_.observer.on_product(product); });
  });
}

void VideoSampling::begin_step() {
  if (policy_.state != nullptr) policy_.state->begin_step();
  if (step_cache_) step_cache_->begin_step();
  if (skipping_) skipping_->begin_step();
}

bool VideoSampling::finish_step(ProgressReporter& reporter, int num_done) {
  Latents now = download_latents(backend(), z_);  // waits: the progress is that of the device
  if (!is_finite(now.values)) {
    if (in_.options.checks_finite) locate_not_finite(num_done - 1);
    throw NotFinite("the latents are not finite");
  }
  latest_ = std::move(now);
  num_done_ = num_done;
  begin_step();
  tell_evaluations(reporter);
  return call_observer([&] {
    const bool goes_on = reporter.try_report(num_done);
    in_.observer.on_step(*this);
    return goes_on;
  });
}

void VideoSampling::tell_evaluations(ProgressReporter& reporter) const {
  if (!skipping_ || in_.observer.wants_skips()) {  // the transformer is evaluated at every step
    reporter.set_evaluations(num_done_ - first_step_, num_steps() - num_done_);
    return;
  }
  const auto is_of_this_call = [this](int step) { return step >= first_step_; };
  reporter.set_evaluations(std::ranges::count_if(skipping_->evaluated_steps(), is_of_this_call),
                           skipping_->estimate_evaluations(num_done_));
}

// Repeats the step from the latents before it and looks at every layer's output.
void VideoSampling::locate_not_finite(int step) {
  const auto at = static_cast<std::size_t>(step);
  upload_latents(backend(), latest_, z_);
  const Tensor velocity(DType::kF32, z_.shape(), backend().allocator());
  for (const Branch branch : {Branch::kCond, Branch::kNull}) {
    if (branch == Branch::kNull && in_.plan.cfgs[at] == 1.0) continue;
    const TextCondition& text = branch == Branch::kCond ? cond_ : null_;
    if (!is_finite(backend(), text.pooled) || !is_finite(backend(), text.tokens)) {
      throw NotFinite(
          fmt::format("the text features of the {} branch are not finite", branch_name(branch)));
    }
    DitCall call{branch, step, static_cast<float>(in_.plan.sigmas[at])};
    call.on_layer = [&](Branch, std::size_t layer, const TensorView& tokens) {
      if (is_finite(backend(), tokens)) return;
      throw NotFinite(fmt::format("the output of layer {} of the {} branch is not finite", layer,
                                  branch_name(branch)));
    };
    evaluate(call, velocity);
  }
  throw NotFinite("the latents are not finite, though every layer's output is");
}

// The observer may fail here, too; the error that ended the sampling is the one to report.
void VideoSampling::interrupt() {
  if (num_done_ <= first_step_ || num_done_ >= num_steps()) return;
  try {
    in_.observer.on_interrupted(*this);
  } catch (const std::exception& error) {
    if (!in_.on_message) return;
    in_.on_message(MessageLevel::kWarning,
                   fmt::format("the state before the interruption is not kept: {}", error.what()));
  }
}

void VideoSampling::run_steps(ProgressReporter& reporter) {
  const DenoiseFn denoise_at = [&](Branch branch, int step, double sigma, const TensorView&,
                                   const TensorView& velocity) {
    DitCall call{branch, step, static_cast<float>(sigma)};
    call.recorder = &recorder_;
    evaluate(call, velocity);
  };
  const StepFn on_step = [&](int num_done) { return finish_step(reporter, num_done); };
  if (!run_euler_loop(ctx_, in_.plan, denoise_at, on_step, z_, first_step_, skipping_.get())) {
    throw Cancelled();
  }
}

void VideoSampling::rethrow_in_words() const {
  if (is_in_observer_) throw;
  try {
    throw;
  } catch (const Cancelled&) {
    throw;
  } catch (const OutOfMemory& error) {
    throw OutOfMemory(in_words(error.what()), error.remedies());
  } catch (const std::bad_alloc&) {
    throw OutOfMemory(in_words("host memory is exhausted"));
  } catch (const NotFinite& error) {
    throw NotFinite(in_words(error.what()));
  } catch (const Error& error) {
    throw Error(in_words(error.what()));
  }
}

Latents VideoSampling::run() {
  first_step_ = num_done_;
  ProgressReporter reporter(in_.observer, Phase::kSampling, num_steps(), "", first_step_);
  prepare();
  begin_step();
  try {
    run_steps(reporter);
  } catch (const std::exception&) {
    if (!is_in_observer_) interrupt();
    rethrow_in_words();
  }
  return std::move(latest_);
}

}  // namespace

void check_start(const SamplerState& start, const Latents& wanted, int num_steps) {
  const Latents& found = start.latents;
  const Shape shape = shape_of(wanted);
  if (shape_of(found) != shape || std::ssize(found.values) != shape.num_elements()) {
    refuse("start", "wanted latents {}, found {} values for {}", shape.to_string(),
           found.values.size(), shape_of(found).to_string());
  }
  if (start.num_steps_done < 1 || start.num_steps_done >= num_steps) {
    refuse("start", "wanted 1 to {} steps done, found {}", num_steps - 1, start.num_steps_done);
  }
}

void upload_latents(Backend& backend, const Latents& latents, const TensorView& z) {
  const Tensor host(DType::kF32, z.shape());
  std::ranges::copy(latents.values, host.view().f32().begin());
  backend.run(ops::Upload{.host = host, .target = z});
}

Latents download_latents(Backend& backend, const TensorView& z) {
  Latents latents{.values = std::vector<float>(static_cast<std::size_t>(z.shape().num_elements())),
                  .channels = z.dim(0),
                  .num_frames = z.dim(1),
                  .height = z.dim(2),
                  .width = z.dim(3)};
  backend.run(ops::Download{.source = z,
                            .host = TensorView(latents.values.data(), DType::kF32, z.shape())});
  return latents;
}

Latents sample_video(Backend& backend, const VideoSamplingInputs& inputs, const TensorView& z,
                     int& num_done) {
  return VideoSampling(backend, inputs, z, num_done).run();
}

}  // namespace mochi
