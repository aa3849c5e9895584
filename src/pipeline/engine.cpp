// The engine behind include/mochi/mochi.h.
#include <unistd.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/noise.h"
#include "base/parallel_for.h"
#include "mochi/mochi.h"
#include "pipeline/networks.h"
#include "pipeline/progress_reporter.h"
#include "pipeline/request.h"
#include "pipeline/sampler.h"
#include "sparsity/analysis_policy.h"
#include "sparsity/column_sparse_policy.h"

namespace mochi {
namespace {

// Latent frames decoded at a time: one keeps the memory least, and more are no faster.
constexpr std::int64_t kDecodeChunkFrames = 1;

struct DeviceChoice {
  Device device = Device::kCpu;
  std::string note;  // why it is not a GPU
};

DeviceChoice choose_device(const std::string& name) {
  if (name == "cpu") return {};
  if (name == "cuda") return {Device::kCuda, ""};
  if (name != "auto") fail("device: wanted 'auto', 'cpu' or 'cuda', found '{}'", name);
  const std::string problem = find_cuda_problem();
  if (problem.empty()) return {Device::kCuda, ""};
  return {Device::kCpu, problem};
}

// "auto" is F32 where that is asked for and BF16 elsewhere: on the CPU it does not matter.
DType parse_activation_dtype(const std::string& dtype) {
  return dtype == "fp32" ? DType::kF32 : DType::kBF16;
}

DType parse_matrix_dtype(const std::string& name, const Backend& backend) {
  if (name == "fp32") return DType::kF32;
  if (name == "bf16") return DType::kBF16;
  if (name == "auto") return backend.preferred_matrix_dtype();
  fail("dtype: wanted 'auto', 'fp32' or 'bf16', found '{}'", name);
}

std::uint64_t physical_memory_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  return pages > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes) : 0;
}

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

void restore_caches(const std::vector<CachedTensor>& caches, AttentionPolicy& policy,
                    Backend& backend) {
  std::vector<PolicyTensor> tensors;
  for (const CachedTensor& cache : caches) {
    if (cache.dtype != "F32" && cache.dtype != "I32") {
      fail("cached tensor '{}': wanted F32 or I32, found {}", cache.name, cache.dtype);
    }
    Tensor host(cache.dtype == "F32" ? DType::kF32 : DType::kI32, Shape(std::span(cache.shape)));
    if (host.view().size_bytes() != cache.bytes.size()) {
      fail("cached tensor '{}': wanted {} bytes, found {}", cache.name, host.view().size_bytes(),
           cache.bytes.size());
    }
    std::ranges::copy(cache.bytes, host.view().bytes());
    tensors.push_back({cache.name, std::move(host)});
  }
  policy.restore(backend, tensors);
}

// Throws Error unless a sampling of this size and number of steps can go on from here.
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

// Bytes of the networks that generating uses, with all parameters in one dtype.
std::uint64_t weight_bytes(const ModelDirectory& directory, DType dtype) {
  std::uint64_t num_parameters = 0;
  for (const Component component :
       {Component::kTextEncoder, Component::kDit, Component::kDecoder}) {
    if (!directory.has(component)) continue;
    const std::shared_ptr<TensorSource> source = directory.open(component);
    for (const std::string& name : source->names()) {
      if (!source->contains(name)) continue;
      num_parameters += static_cast<std::uint64_t>(source->info(name).shape.num_elements());
    }
  }
  return num_parameters * dtype_bytes(dtype);
}

}  // namespace

// Features of both branches; the null branch's are absent where it is never run.
struct TextFeatures {
  Tensor cond;
  Tensor null;
};

struct Engine::Impl {
  explicit Impl(const EngineOptions& options);

  LoadOptions load_options(const ProgressFn& on_progress) const {
    return {*backend, matrix_dtype, on_progress};
  }
  TextFeatures encode_text(const GenerateRequest& request, bool needs_null,
                           const ProgressFn& on_progress);
  void fill_noise(const GenerateRequest& request, const TensorView& z) const;
  void run_sampler(const Dit& model, const SamplingPlan& plan, const GenerateRequest& request,
                   const TextFeatures& features, const ProgressFn& on_progress,
                   const SampleControl& control, const TensorView& z);
  void upload_latents(const Latents& latents, const TensorView& z) const;
  Latents download_latents(const TensorView& z) const;

  DeviceChoice choice;
  ModelDirectory directory;
  LoraDeltas loras;
  std::unique_ptr<Backend> backend;
  DType matrix_dtype;
  bool keeps_networks;
  std::optional<TextNetwork> text;
  std::optional<DitNetwork> dit;
  std::optional<DecoderNetwork> decoder;
  std::optional<EncoderNetwork> encoder;
};

Engine::Impl::Impl(const EngineOptions& options)
    : choice(choose_device(options.device)),
      directory(options.model_dir),
      backend(
          make_backend(choice.device, {.activation_dtype = parse_activation_dtype(options.dtype),
                                       .memory_limit_bytes = options.vram_limit_bytes})),
      matrix_dtype(parse_matrix_dtype(options.dtype, *backend)),
      keeps_networks(!options.cpu_offload &&
                     weight_bytes(directory, matrix_dtype) <= physical_memory_bytes() / 2) {
  if (options.num_threads < 0) {
    fail("num_threads: wanted 0 (all) or more, found {}", options.num_threads);
  }
  set_num_threads(options.num_threads);
  directory.config().validate();
  for (const Lora& lora : options.loras) {
    add_lora(lora.path, lora.scale, directory.config().dit, loras);
  }
}

TextFeatures Engine::Impl::encode_text(const GenerateRequest& request, bool needs_null,
                                       const ProgressFn& on_progress) {
  const DitConfig& config = directory.config().dit;
  const bool has_null_text = needs_null && !request.negative_prompt.empty();
  if (request.prompt.empty() && !has_null_text) {
    const auto none = [&] {
      return Tensor(backend->activation_dtype(), {0, config.text_width}, backend->allocator());
    };
    return {none(), none()};
  }
  if (!text) text.emplace(directory, load_options(on_progress));
  Arena scratch(backend->allocator());
  Context ctx{*backend, scratch};
  ProgressReporter reporter(on_progress, Phase::kText, has_null_text ? 2 : 1);
  TextFeatures features;
  features.cond = text->encode(ctx, request.prompt, config.max_text_tokens, "prompt");
  reporter.advance();
  const std::string null_text = needs_null ? request.negative_prompt : "";
  features.null = text->encode(ctx, null_text, config.max_text_tokens, "negative_prompt");
  if (has_null_text) reporter.advance();
  if (!keeps_networks) text.reset();
  return features;
}

void Engine::Impl::fill_noise(const GenerateRequest& request, const TensorView& z) const {
  const Tensor host(DType::kF32, z.shape());
  const std::span<float> values = host.view().f32();
  if (request.initial_noise.empty()) {
    fill_normal(parse_noise_source(request.noise_source), request.seed, values);
  } else {
    std::ranges::copy(request.initial_noise, values.begin());
  }
  backend->upload(host, z);
}

void Engine::Impl::run_sampler(const Dit& model, const SamplingPlan& plan,
                               const GenerateRequest& request, const TextFeatures& features,
                               const ProgressFn& on_progress, const SampleControl& control,
                               const TensorView& z) {
  Arena scratch(backend->allocator());
  Context ctx{*backend, scratch};
  const int first_step = control.start != nullptr ? control.start->num_steps_done : 0;
  ProgressReporter reporter(on_progress, Phase::kSampling, plan.num_steps(), "", first_step);
  const TokenGrid grid = model.token_grid(z.dim(1), z.dim(2), z.dim(3));
  const std::unique_ptr<AttentionPolicy> policy = make_policy(request, grid, control.on_site);
  if (control.start != nullptr) restore_caches(control.start->caches, *policy, *backend);
  const DitRun run = model.prepare(*backend, grid, policy->token_order());
  const TextCondition cond = model.condition(ctx, features.cond);
  const TextCondition null = model.condition(ctx, features.null);
  const auto denoise = [&](Branch branch, int step, double sigma, const TensorView& latents,
                           const TensorView& velocity) {
    model.forward(ctx, run, {branch, step, static_cast<float>(sigma)},
                  branch == Branch::kCond ? cond : null, *policy, latents, velocity);
  };
  const auto on_step = [&](int num_done) {
    const bool goes_on = reporter.try_report(num_done);
    if (control.on_latents) control.on_latents(num_done, download_latents(z));
    const bool is_due = control.checkpoint_every > 0 && num_done < plan.num_steps() &&
                        (!goes_on || num_done % control.checkpoint_every == 0);
    if (is_due) {
      control.on_checkpoint({num_done, download_latents(z), save_caches(*policy, *backend)});
    }
    return goes_on;
  };
  if (!mochi::sample(ctx, plan, denoise, on_step, z, first_step)) throw Cancelled();
}

void Engine::Impl::upload_latents(const Latents& latents, const TensorView& z) const {
  const Tensor host(DType::kF32, z.shape());
  std::ranges::copy(latents.values, host.view().f32().begin());
  backend->upload(host, z);
}

Latents Engine::Impl::download_latents(const TensorView& z) const {
  Latents latents{.values = std::vector<float>(static_cast<std::size_t>(z.shape().num_elements())),
                  .channels = z.dim(0),
                  .num_frames = z.dim(1),
                  .height = z.dim(2),
                  .width = z.dim(3)};
  backend->download(z, TensorView(latents.values.data(), DType::kF32, z.shape()));
  return latents;
}

const char* version() { return MOCHI_VERSION; }

Engine::Engine(const EngineOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

GenerateRequest Engine::default_request() const {
  return make_default_request(impl_->directory.config().generation);
}

int Engine::default_fps() const { return impl_->directory.config().generation.fps; }

void Engine::check(const GenerateRequest& request) const {
  check_request(impl_->directory.config(), request);
  // What is written is read with all checks that a file gets.
  if (request.sparsity) parse_sparsity_config(to_yaml(*request.sparsity), "sparsity");
}

std::vector<std::string> Engine::find_doubts(const GenerateRequest& request) const {
  if (!request.sparsity) return {};
  return mochi::find_doubts(*request.sparsity, request.num_steps, num_layers(),
                            impl_->directory.config().dit.mlp_hidden_x);
}

void Engine::check_files(const GenerateRequest& request) const {
  const ModelDirectory& directory = impl_->directory;
  if (!request.prompt.empty() || !request.negative_prompt.empty()) {
    directory.tokenizer();
    check_weights(directory, Component::kTextEncoder);
  }
  check_weights(directory, Component::kDit);
  check_weights(directory, Component::kDecoder);
}

Latents Engine::sample(const GenerateRequest& request, const ProgressFn& progress,
                       const SampleControl& control) {
  check(request);
  Impl& impl = *impl_;
  const SamplingPlan plan = make_sampling_plan(request);
  const Latents latents = latent_size({request.width, request.height, request.num_frames});
  if (control.start != nullptr) check_start(*control.start, latents, plan.num_steps());
  const Shape shape{latents.channels, latents.num_frames, latents.height, latents.width};
  const TextFeatures features = impl.encode_text(request, plan.needs_null_branch(), progress);
  if (!impl.dit) impl.dit.emplace(impl.directory, impl.loras, impl.load_options(progress));
  const Tensor z(DType::kF32, shape, impl.backend->allocator());
  if (control.start != nullptr) {
    impl.upload_latents(control.start->latents, z);
  } else {
    impl.fill_noise(request, z);
  }
  impl.run_sampler(impl.dit->dit(), plan, request, features, progress, control, z);
  if (!impl.keeps_networks) impl.dit.reset();
  return impl.download_latents(z);
}

void Engine::decode(const Latents& latents, const FrameSink& sink, const ProgressFn& progress) {
  Impl& impl = *impl_;
  const VideoSize size = video_size(latents);
  const Shape shape{latents.channels, latents.num_frames, latents.height, latents.width};
  if (std::ssize(latents.values) != shape.num_elements()) {
    fail("latents: wanted {} values for {}, found {}", shape.num_elements(), shape.to_string(),
         latents.values.size());
  }
  if (!impl.decoder) impl.decoder.emplace(impl.directory, impl.load_options(progress));
  const Tensor z(DType::kF32, shape, impl.backend->allocator());
  impl.upload_latents(latents, z);

  Arena scratch(impl.backend->allocator());
  Context ctx{*impl.backend, scratch};
  ProgressReporter reporter(progress, Phase::kDecoding, size.num_frames);
  decode_video(ctx, impl.decoder->decoder(), z, kDecodeChunkFrames,
               [&](std::span<const std::uint8_t> rgb, std::int64_t frame_idx) {
                 sink(rgb, frame_idx);
                 reporter.report(frame_idx + 1);
               });
  if (!impl.keeps_networks) impl.decoder.reset();
}

Latents Engine::encode(std::span<const std::uint8_t> rgb, const VideoSize& size,
                       const ProgressFn& progress) {
  Impl& impl = *impl_;
  const Latents latents = latent_size(size);
  const Shape frames_shape{size.num_frames, size.height, size.width, 3};
  if (std::ssize(rgb) != frames_shape.num_elements()) {
    fail("rgb: wanted {} bytes for {}, found {}", frames_shape.num_elements(),
         frames_shape.to_string(), rgb.size());
  }
  if (!impl.encoder) impl.encoder.emplace(impl.directory, impl.load_options(progress));
  Arena scratch(impl.backend->allocator());
  Context ctx{*impl.backend, scratch};
  ProgressReporter reporter(progress, Phase::kEncoding, size.num_frames);
  const Tensor host(DType::kF32, frames_shape);
  std::transform(rgb.begin(), rgb.end(), host.view().f32().begin(),
                 [](std::uint8_t byte) { return static_cast<float>(byte) / 255.0F * 2.0F - 1.0F; });
  const Tensor frames(impl.backend->activation_dtype(), frames_shape, impl.backend->allocator());
  impl.backend->upload(host, frames);
  const Tensor z(DType::kF32, {latents.channels, latents.num_frames, latents.height, latents.width},
                 impl.backend->allocator());
  impl.encoder->encoder().encode(ctx, frames, z);
  reporter.report(size.num_frames);
  if (!impl.keeps_networks) impl.encoder.reset();
  return impl.download_latents(z);
}

Latents Engine::latent_size(const VideoSize& size) const {
  return size_latents(impl_->directory.config(), size);
}

VideoSize Engine::video_size(const Latents& latents) const {
  return size_video(impl_->directory.config(), latents);
}

int Engine::num_layers() const { return static_cast<int>(impl_->directory.config().dit.depth); }

std::vector<ModelFile> Engine::model_files() const {
  std::vector<ModelFile> files;
  for (const std::filesystem::path& path : impl_->directory.files()) {
    files.push_back({std::filesystem::relative(path, impl_->directory.path()).string(),
                     std::filesystem::file_size(path), fingerprint_file(path)});
  }
  return files;
}

std::string Engine::device() const {
  return impl_->choice.device == Device::kCuda ? "cuda" : "cpu";
}

std::string Engine::device_name() const { return impl_->backend->device_name(); }

std::string Engine::device_note() const { return impl_->choice.note; }

std::uint64_t Engine::peak_device_bytes() const { return impl_->backend->memory().peak_bytes; }

std::string Engine::dtype() const { return impl_->matrix_dtype == DType::kBF16 ? "bf16" : "fp32"; }

int Engine::num_threads() const { return mochi::num_threads(); }

}  // namespace mochi
