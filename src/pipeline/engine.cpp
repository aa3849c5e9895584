// The engine behind include/mochi/mochi.h.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <iterator>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/log.h"
#include "base/noise.h"
#include "base/parallel_for.h"
#include "mochi/mochi.h"
#include "pipeline/model_warnings.h"
#include "pipeline/networks.h"
#include "pipeline/progress_reporter.h"
#include "pipeline/request.h"
#include "pipeline/sampling.h"

namespace mochi {
namespace {

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

// Bytes of the networks that generating uses, with all parameters in one dtype.
std::uint64_t weight_bytes(const ModelDirectory& directory, DType dtype) {
  std::int64_t num_parameters = 0;
  for (const Component component :
       {Component::kTextEncoder, Component::kDit, Component::kDecoder}) {
    if (!directory.has(component)) continue;
    for (const auto& [name, shape] : parameters_of(directory.config(), component)) {
      num_parameters += shape.num_elements();
    }
  }
  return static_cast<std::uint64_t>(num_parameters) * dtype_bytes(dtype);
}

ModelDirectory open_directory(const EngineOptions& options) {
  if (options.random_weights.empty()) return ModelDirectory(options.model_dir);
  if (!options.loras.empty()) fail("loras: have no effect on random weights");
  return ModelDirectory::with_random_weights(options.random_weights, options.model_dir);
}

}  // namespace

struct Engine::Impl {
  explicit Impl(const EngineOptions& given);

  bool is_gpu() const { return choice.device == Device::kCuda; }
  LoadOptions load_options(const ProgressFn& on_progress) const {
    return {*backend, matrix_dtype, on_progress, options.cpu_offload && is_gpu()};
  }
  TextFeatures encode_text(const GenerateRequest& request, bool needs_null,
                           const ProgressFn& on_progress);
  Tensor upload_frames(std::span<const std::uint8_t> rgb, const Shape& shape) const;
  void fill_noise(const GenerateRequest& request, const TensorView& z) const;
  // Runs a stage. When memory runs out, drops the networks that it does not need, if there are any,
  // and runs it again, as long as `may_repeat` says so.
  template <typename Stage, typename MayRepeat>
  void run_stage(Component needed, const Stage& stage, const MayRepeat& may_repeat);
  // Drops all networks but one. Returns whether there were any.
  bool drop_others(Component needed);
  // What to do about too little memory.
  std::string advise(Component needed) const;

  DeviceChoice choice;
  EngineOptions options;
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

Engine::Impl::Impl(const EngineOptions& given)
    : choice(choose_device(given.device)),
      options(given),
      directory(open_directory(given)),
      backend(make_backend(choice.device, {.activation_dtype = parse_activation_dtype(given.dtype),
                                           .memory_limit_bytes = given.vram_limit_bytes})),
      matrix_dtype(parse_matrix_dtype(given.dtype, *backend)),
      keeps_networks(!given.cpu_offload && (is_gpu() || weight_bytes(directory, matrix_dtype) <=
                                                            physical_memory_bytes() / 2)) {
  if (options.num_threads < 0) {
    fail("num_threads: wanted 0 (all) or more, found {}", options.num_threads);
  }
  if (options.vram_limit_bytes > 0 && !is_gpu()) fail("vram_limit: has no effect on the CPU");
  set_num_threads(options.num_threads);
  directory.validate();
  for (const std::string& note : directory.notes()) log_debug("{}", note);
  if (!options.loras.empty()) directory.require(std::array{Component::kDit}, false);
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
  TextFeatures features;
  const auto encode = [&] {
    if (!text) text.emplace(directory, load_options(on_progress));
    Arena scratch(backend->allocator());
    Context ctx{*backend, scratch};
    ProgressReporter reporter(on_progress, Phase::kText, has_null_text ? 2 : 1);
    features.cond = text->encode(ctx, request.prompt, config.max_text_tokens, "prompt");
    backend->synchronize();  // so that the progress is that of the device
    reporter.advance();
    const std::string null_text = needs_null ? request.negative_prompt : "";
    features.null = text->encode(ctx, null_text, config.max_text_tokens, "negative_prompt");
    if (has_null_text) reporter.advance();
  };
  run_stage(Component::kTextEncoder, encode, [] { return true; });
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

// RGB bytes as activations in [−1, 1].
Tensor Engine::Impl::upload_frames(std::span<const std::uint8_t> rgb, const Shape& shape) const {
  const Tensor host(DType::kF32, shape);
  std::transform(rgb.begin(), rgb.end(), host.view().f32().begin(),
                 [](std::uint8_t byte) { return static_cast<float>(byte) / 255.0F * 2.0F - 1.0F; });
  Tensor frames(DType::kF32, shape, backend->allocator());
  backend->upload(host, frames);
  return frames;
}

bool Engine::Impl::drop_others(Component needed) {
  bool has_dropped = false;
  const auto drop = [&](Component component, auto& network) {
    if (component == needed || !network) return;
    network.reset();
    has_dropped = true;
  };
  drop(Component::kTextEncoder, text);
  drop(Component::kDit, dit);
  drop(Component::kDecoder, decoder);
  drop(Component::kEncoder, encoder);
  return has_dropped;
}

std::string Engine::Impl::advise(Component needed) const {
  if (!is_gpu()) return "a smaller video needs less, and so does --dtype bf16";
  std::string advice = "a smaller video needs less";
  if (needed == Component::kDit && !options.cpu_offload) advice += ", and so does --cpu-offload";
  if (matrix_dtype == DType::kF32) advice += ", and so does --dtype bf16";
  if (options.vram_limit_bytes > 0) advice += "; --vram-limit may be too low";
  return advice;
}

template <typename Stage, typename MayRepeat>
void Engine::Impl::run_stage(Component needed, const Stage& stage, const MayRepeat& may_repeat) {
  try {
    try {
      stage();
    } catch (const OutOfMemory&) {
      if (!may_repeat() || !drop_others(needed)) throw;
      stage();
    }
  } catch (const OutOfMemory& error) {
    drop_others(needed);
    throw OutOfMemory(
        fmt::format("{}: {}; {}", component_name(needed), error.what(), advise(needed)));
  }
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
  if (request.sparsity) validate(*request.sparsity);
}

std::vector<std::string> Engine::find_doubts(const GenerateRequest& request) const {
  std::vector<std::string> warnings = model_warnings(impl_->directory, request);
  if (!request.sparsity) return warnings;
  std::ranges::move(sparsity_warnings(*request.sparsity, request.num_steps, num_layers(),
                                      impl_->directory.config().dit.mlp_hidden_x),
                    std::back_inserter(warnings));
  return warnings;
}

void Engine::check_files(const GenerateRequest& request) const {
  const ModelDirectory& directory = impl_->directory;
  if (directory.has_random_weights()) return;
  std::vector<Component> needed{Component::kDit, Component::kDecoder};
  const bool has_text = !request.prompt.empty() || !request.negative_prompt.empty();
  if (has_text) needed.insert(needed.begin(), Component::kTextEncoder);
  directory.require(needed, has_text);
  if (has_text) check_weights(directory, Component::kTextEncoder);
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
  Tensor z;
  int num_done = 0;
  const int first_step = control.start != nullptr ? control.start->num_steps_done : 0;
  const auto run = [&] {
    if (!impl.dit) impl.dit.emplace(impl.directory, impl.loras, impl.load_options(progress));
    num_done = first_step;
    z = Tensor(DType::kF32, shape, impl.backend->allocator());
    if (control.start != nullptr) {
      upload_latents(*impl.backend, control.start->latents, z);
    } else {
      impl.fill_noise(request, z);
    }
    run_sampling(*impl.backend, {impl.dit->dit(), plan, request, features, progress, control}, z,
                 num_done);
  };
  impl.run_stage(Component::kDit, run, [&] { return num_done <= first_step; });
  if (!impl.keeps_networks) impl.dit.reset();
  return download_latents(*impl.backend, z);
}

void Engine::decode(const Latents& latents, const FrameSink& sink, const ProgressFn& progress) {
  Impl& impl = *impl_;
  const VideoSize size = video_size(latents);
  const Shape shape{latents.channels, latents.num_frames, latents.height, latents.width};
  if (std::ssize(latents.values) != shape.num_elements()) {
    fail("latents: wanted {} values for {}, found {}", shape.num_elements(), shape.to_string(),
         latents.values.size());
  }
  bool has_frames = false;
  const auto run = [&] {
    if (!impl.decoder) impl.decoder.emplace(impl.directory, impl.load_options(progress));
    const Tensor z(DType::kF32, shape, impl.backend->allocator());
    upload_latents(*impl.backend, latents, z);
    Arena scratch(impl.backend->allocator());
    Context ctx{*impl.backend, scratch};
    ProgressReporter reporter(progress, Phase::kDecoding, size.num_frames);
    decode_video(ctx, impl.decoder->decoder(), z,
                 impl.backend->preferred_video_pieces().latent_frames,
                 [&](std::span<const std::uint8_t> rgb, std::int64_t frame_idx) {
                   has_frames = true;
                   sink(rgb, frame_idx);
                   reporter.report(frame_idx + 1);
                 });
  };
  impl.run_stage(Component::kDecoder, run, [&] { return !has_frames; });
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
  Latents result;
  const auto run = [&] {
    if (!impl.encoder) impl.encoder.emplace(impl.directory, impl.load_options(progress));
    Arena scratch(impl.backend->allocator());
    Context ctx{*impl.backend, scratch};
    ProgressReporter reporter(progress, Phase::kEncoding, size.num_frames);
    const Tensor frames = impl.upload_frames(rgb, frames_shape);
    const Tensor z(DType::kF32,
                   {latents.channels, latents.num_frames, latents.height, latents.width},
                   impl.backend->allocator());
    impl.encoder->encoder().encode(ctx, frames, z);
    result = download_latents(*impl.backend, z);
    reporter.report(size.num_frames);
  };
  impl.run_stage(Component::kEncoder, run, [] { return true; });
  if (!impl.keeps_networks) impl.encoder.reset();
  return result;
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
