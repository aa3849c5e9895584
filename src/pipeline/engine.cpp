// Engine of include/mochi/mochi.h.
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <new>
#include <optional>
#include <utility>

#include "base/error.h"
#include "base/noise.h"
#include "base/parallel_for.h"
#include "mochi/mochi.h"
#include "pipeline/model_data.h"
#include "pipeline/networks.h"
#include "pipeline/progress_reporter.h"
#include "pipeline/request.h"
#include "pipeline/text_cache.h"
#include "pipeline/video_sampling.h"

namespace mochi {

struct DeviceChoice {
  Device device = Device::cpu();
  std::string note;  // why it is not a GPU
};

namespace {

DeviceChoice choose_device(DeviceKind kind, int index) {
  constexpr int kMaxIndex = 255;
  if (index < 0 || index > kMaxIndex || (kind == DeviceKind::kAuto && index != 0)) {
    refuse("device_index", "wanted 0{}, found {}",
           kind == DeviceKind::kAuto ? "" : fmt::format(" to {}", kMaxIndex), index);
  }
  if (kind == DeviceKind::kCpu) return {Device::cpu(index), ""};
  if (kind == DeviceKind::kCuda) return {Device::cuda(index), ""};
  const std::string problem = find_cuda_problem();
  if (problem.empty()) return {Device::cuda(), ""};
  return {Device::cpu(), problem};
}

// Returns F32 for kFp32, otherwise BF16. The CPU ignores it.
DType choose_activation_dtype(Precision precision) {
  return precision == Precision::kFp32 ? DType::kF32 : DType::kBF16;
}

DType choose_matrix_dtype(Precision precision, const Backend& backend) {
  if (precision == Precision::kFp32) return DType::kF32;
  if (precision == Precision::kBf16) return DType::kBF16;
  return backend.device().preferred_matrix_dtype();
}

std::uint64_t physical_memory_bytes() {
  const long pages = ::sysconf(_SC_PHYS_PAGES);
  const long page_bytes = ::sysconf(_SC_PAGESIZE);
  return pages > 0 ? static_cast<std::uint64_t>(pages) * static_cast<std::uint64_t>(page_bytes) : 0;
}

// Returns the type of the first layers that multiply in 8 bits; nothing if there are none.
std::optional<ComputeType> find_8bit(const std::optional<ComputePlan>& plan) {
  if (!plan) return std::nullopt;
  if (plan->type != ComputeType::kBf16) return plan->type;
  for (const ComputeOverride& entry : plan->overrides) {
    if (entry.type != ComputeType::kBf16) return entry.type;
  }
  return std::nullopt;
}

void check_options(const EngineOptions& options, Device device, int num_blocks) {
  if (options.num_threads < 0) {
    refuse("num_threads", "wanted 0 (all) or more, found {}", options.num_threads);
  }
  if (options.vram_limit_bytes > 0 && device.is_cpu()) {
    refuse("vram_limit_bytes", "has no effect on the CPU");
  }
  const std::optional<ComputeType> products = find_8bit(options.compute);
  if (products && !device.is_cpu()) {
    refuse("compute", "wanted bf16 on a GPU, found {}", name_of(*products));
  }
  if (!options.compute) return;
  for (const ComputeOverride& entry : options.compute->overrides) {
    if (entry.first_block >= num_blocks) {
      refuse("compute", "wanted blocks from 0 to {}, found {}", num_blocks - 1, entry.first_block);
    }
  }
}

void check_compute(const EngineOptions& options, const GenerateRequest& request) {
  const std::optional<ComputeType> products = find_8bit(options.compute);
  if (products && request.sparsity && request.sparsity->mlp.is_enabled) {
    refuse("compute", "wanted bf16 with sparse feed-forward layers (mlp.is_enabled), found {}",
           name_of(*products));
  }
}

// A text, and the field that errors about it name.
struct NamedText {
  std::string text;
  const char* field;
};

// The time of one call, which no other call may share.
class BusyScope {
 public:
  explicit BusyScope(std::atomic<bool>& is_busy) : is_busy_(is_busy) {
    if (is_busy_.exchange(true)) throw Busy();
  }
  ~BusyScope() { is_busy_ = false; }
  BusyScope(const BusyScope&) = delete;
  BusyScope& operator=(const BusyScope&) = delete;

 private:
  std::atomic<bool>& is_busy_;
};

}  // namespace

struct Engine::Impl {
  explicit Impl(const EngineOptions& given);

  bool is_gpu() const { return !choice.device.is_cpu(); }
  const ModelDirectory& directory() const { return model.data_->directory; }
  LoadOptions load_options(Observer& observer) const {
    return {*backend, storage, observer, options.cpu_offload && is_gpu()};
  }
  void tell(MessageLevel level, const std::string& line) const {
    if (options.on_message) options.on_message(level, line);
  }
  // Reports how much memory a network's weights take, once they are loaded.
  void tell_size(Component component, const WeightStore& store) const;
  // Stores the features of those texts that are neither empty nor stored.
  void encode_texts(std::span<const NamedText> texts, Observer& observer);
  void encode_text(const TextNetwork& network, Context& ctx, const NamedText& named);
  // The features of a text that is stored, on the device; no rows for an empty text.
  Tensor upload_features(const std::string& encoded);
  Tensor upload_frames(std::span<const std::uint8_t> rgb, const Shape& shape) const;
  void fill_noise(const GenerateRequest& request, const TensorView& z) const;
  // Runs a stage. When memory runs out, drops the networks that it does not need, if there are any,
  // and runs it again, as long as `may_repeat` returns true.
  template <typename Stage, typename MayRepeat>
  void run_stage(Component needed, const Stage& stage, const MayRepeat& may_repeat);
  // Drops all networks but one. Returns true if there were others.
  bool drop_others(Component needed);
  std::set<Remedy> find_remedies(Component needed) const;

  ModelInfo model;
  DeviceChoice choice;
  EngineOptions options;
  std::unique_ptr<Backend> backend;
  MatrixStorage storage;
  bool keeps_networks;
  std::atomic<bool> is_busy = false;
  TextCache encoded_texts;
  std::optional<TextNetwork> text;
  std::optional<DitNetwork> dit;
  std::optional<DecoderNetwork> decoder;
  std::optional<EncoderNetwork> encoder;
};

Engine::Impl::Impl(const EngineOptions& given)
    : model(given),
      choice(choose_device(given.device, given.device_index)),
      options(given),
      backend(
          make_backend(choice.device, {.activation_dtype = choose_activation_dtype(given.precision),
                                       .memory_limit_bytes = given.vram_limit_bytes})),
      storage(choose_matrix_dtype(given.precision, *backend), given.weights,
              given.compute.value_or(ComputePlan{})),
      keeps_networks(!given.cpu_offload && (is_gpu() || weight_bytes(directory(), storage) <=
                                                            physical_memory_bytes() / 2)) {
  check_options(options, choice.device, model.num_layers());
  set_num_threads(options.num_threads);
}

void Engine::Impl::tell_size(Component component, const WeightStore& store) const {
  constexpr double kMillion = 1e6;
  const auto megabytes = [](std::size_t num_bytes) {
    return static_cast<double>(num_bytes) / kMillion;
  };
  const LayerStreamer* const streamer = store.streamer();
  const std::string on_host = streamer != nullptr ? fmt::format(", {:.1f} MB of it in host memory",
                                                                megabytes(streamer->host_bytes()))
                                                  : "";
  tell(MessageLevel::kDebug,
       fmt::format("{}: {:.2f} million parameters take {:.1f} MB{}", component_name(component),
                   static_cast<double>(store.num_parameters()) / kMillion,
                   megabytes(store.size_bytes()), on_host));
}

void Engine::Impl::encode_texts(std::span<const NamedText> texts, Observer& observer) {
  std::vector<NamedText> missing;
  for (const NamedText& each : texts) {
    if (each.text.empty() ||
        std::ranges::find(missing, each.text, &NamedText::text) != missing.end()) {
      continue;
    }
    if (encoded_texts.find(each.text) == nullptr) missing.push_back(each);
  }
  if (missing.empty()) return;
  const StopFn should_stop = [&] { return observer.should_stop(); };
  const auto encode = [&] {
    if (!text) {
      text.emplace(directory(), load_options(observer));
      tell_size(Component::kTextEncoder, text->store());
    }
    Arena scratch(backend->allocator());
    Context ctx{*backend, scratch, &should_stop};
    const StopScope stop(should_stop);
    ProgressReporter reporter(observer, Phase::kText, std::ssize(missing));
    for (const NamedText& each : missing) {
      // A stage that ran out of memory is repeated.
      if (encoded_texts.find(each.text) == nullptr) encode_text(*text, ctx, each);
      reporter.advance();
    }
  };
  run_stage(Component::kTextEncoder, encode, [] { return true; });
  if (!keeps_networks) text.reset();
}

void Engine::Impl::encode_text(const TextNetwork& network, Context& ctx, const NamedText& named) {
  const std::int64_t max_tokens = directory().config().dit.max_text_tokens;
  const Tensor features = network.encode(ctx, named.text, max_tokens, named.field);
  Tensor host(features.view().dtype(), features.view().shape());
  backend->run(ops::Download{.source = features, .host = host});
  encoded_texts.add(named.text, std::move(host));
}

Tensor Engine::Impl::upload_features(const std::string& encoded) {
  const Tensor* const host = encoded_texts.find(encoded);
  const Shape shape =
      host != nullptr ? host->view().shape() : Shape{0, directory().config().dit.text_width};
  Tensor features(backend->activation_dtype(), shape, backend->allocator());
  if (host != nullptr) backend->run(ops::Upload{.host = *host, .target = features});
  return features;
}

void Engine::Impl::fill_noise(const GenerateRequest& request, const TensorView& z) const {
  const Tensor host(DType::kF32, z.shape());
  const std::span<float> values = host.view().f32();
  if (request.initial_noise.empty()) {
    fill_normal(request.noise_source, request.seed, values);
  } else {
    std::ranges::copy(request.initial_noise, values.begin());
  }
  backend->run(ops::Upload{.host = host, .target = z});
}

// RGB bytes as activations in [−1, 1].
Tensor Engine::Impl::upload_frames(std::span<const std::uint8_t> rgb, const Shape& shape) const {
  const Tensor host(DType::kF32, shape);
  std::transform(rgb.begin(), rgb.end(), host.view().f32().begin(),
                 [](std::uint8_t byte) { return static_cast<float>(byte) / 255.0F * 2.0F - 1.0F; });
  Tensor frames(DType::kF32, shape, backend->allocator());
  backend->run(ops::Upload{.host = host, .target = frames});
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

std::set<Remedy> Engine::Impl::find_remedies(Component needed) const {
  std::set<Remedy> remedies{Remedy::kSmallerVideo};
  if (storage.dtype == DType::kF32) remedies.insert(Remedy::kBf16);
  if (!is_gpu()) return remedies;
  if (needed == Component::kDit && !options.cpu_offload) remedies.insert(Remedy::kCpuOffload);
  if (options.vram_limit_bytes > 0) remedies.insert(Remedy::kRaiseVramLimit);
  return remedies;
}

template <typename Stage, typename MayRepeat>
void Engine::Impl::run_stage(Component needed, const Stage& stage, const MayRepeat& may_repeat) {
  const auto give_up = [&](const char* facts) {
    drop_others(needed);
    throw OutOfMemory(fmt::format("{}: {}", component_name(needed), facts), find_remedies(needed));
  };
  try {
    try {
      stage();
    } catch (const OutOfMemory& error) {
      if (!may_repeat() || !drop_others(needed)) throw;
      tell(MessageLevel::kDebug,
           fmt::format("{}; the other networks are dropped to make room", error.what()));
      stage();
    }
  } catch (const OutOfMemory& error) {
    give_up(error.what());
  } catch (const std::bad_alloc&) {
    give_up("host memory is exhausted");
  }
}

const char* version() { return MOCHI_VERSION; }

Engine::Engine(const EngineOptions& options) : impl_(std::make_unique<Impl>(options)) {}
Engine::~Engine() = default;
Engine::Engine(Engine&&) noexcept = default;
Engine& Engine::operator=(Engine&&) noexcept = default;

Engine::Impl& Engine::checked_impl() const {
  if (!impl_) fail("the engine was moved to another object and cannot be used");
  return *impl_;
}

const ModelInfo& Engine::model() const { return checked_impl().model; }

EngineInfo Engine::info() const {
  const Impl& impl = checked_impl();
  return {.device = impl.is_gpu() ? DeviceKind::kCuda : DeviceKind::kCpu,
          .device_index = impl.choice.device.index,
          .device_name = impl.backend->device().name(),
          .device_note = impl.choice.note,
          .precision = impl.storage.dtype == DType::kBF16 ? Precision::kBf16 : Precision::kFp32,
          .num_threads = num_threads(),
          .keeps_networks = impl.keeps_networks,
          .peak_device_bytes = impl.backend->device().memory().peak_bytes};
}

Latents Engine::sample(const GenerateRequest& request, const SampleOptions& options) {
  Observer observer;
  return sample(request, observer, options);
}

Latents Engine::sample(const GenerateRequest& request, Observer& observer,
                       const SampleOptions& options) {
  Impl& impl = checked_impl();
  const BusyScope busy(impl.is_busy);
  model().check(request);
  check_compute(impl.options, request);
  const StepPlan plan = make_step_plan(request);
  const Latents size = model().latent_size({request.width, request.height, request.num_frames});
  if (options.start != nullptr) check_start(*options.start, size, plan.num_steps());
  const std::string null_text = plan.needs_null_branch() ? request.negative_prompt : "";
  impl.encode_texts(
      std::array{NamedText{request.prompt, "prompt"}, NamedText{null_text, "negative_prompt"}},
      observer);
  int num_done = 0;
  const int first_step = options.start != nullptr ? options.start->num_steps_done : 0;
  Latents latents;
  const auto run = [&] {
    if (!impl.dit) {
      impl.dit.emplace(impl.directory(), impl.model.data_->loras, impl.load_options(observer));
      impl.tell_size(Component::kDit, impl.dit->store());
    }
    num_done = first_step;
    const TextFeatures features{impl.upload_features(request.prompt),
                                impl.upload_features(null_text)};
    const Tensor z(DType::kF32, shape_of(size), impl.backend->allocator());
    if (options.start != nullptr) {
      upload_latents(*impl.backend, options.start->latents, z);
    } else {
      impl.fill_noise(request, z);
    }
    latents = sample_video(
        *impl.backend,
        {impl.dit->dit(), plan, request, features, observer, options, impl.options.on_message}, z,
        num_done);
  };
  impl.run_stage(Component::kDit, run, [&] { return num_done <= first_step; });
  if (!impl.keeps_networks) impl.dit.reset();
  return latents;
}

void Engine::encode_prompts(std::span<const std::string> prompts) {
  Observer observer;
  encode_prompts(prompts, observer);
}

void Engine::encode_prompts(std::span<const std::string> prompts, Observer& observer) {
  Impl& impl = checked_impl();
  const BusyScope busy(impl.is_busy);
  if (prompts.size() > kMaxEncodedPrompts) {
    refuse("prompts", "wanted at most {}, found {}", kMaxEncodedPrompts, prompts.size());
  }
  std::vector<NamedText> texts;
  texts.reserve(prompts.size());
  for (const std::string& prompt : prompts) {
    check_text("prompts", prompt);
    texts.push_back({prompt, "prompts"});
  }
  impl.encode_texts(texts, observer);
}

void Engine::decode(const Latents& latents, const FrameSink& sink) {
  Observer observer;
  decode(latents, sink, observer);
}

void Engine::decode(const Latents& latents, const FrameSink& sink, Observer& observer) {
  Impl& impl = checked_impl();
  const BusyScope busy(impl.is_busy);
  const VideoSize size = model().video_size(latents);
  check_values("latents", latents, latents.values);
  if (!sink) refuse("sink", "wanted a function, found none");
  bool has_frames = false;
  const StopFn should_stop = [&] { return observer.should_stop(); };
  const auto run = [&] {
    if (!impl.decoder) impl.decoder.emplace(impl.directory(), impl.load_options(observer));
    const Tensor z(DType::kF32, shape_of(latents), impl.backend->allocator());
    upload_latents(*impl.backend, latents, z);
    Arena scratch(impl.backend->allocator());
    Context ctx{*impl.backend, scratch, &should_stop};
    const StopScope stop(should_stop);
    ProgressReporter reporter(observer, Phase::kDecoding, size.num_frames);
    decode_video(ctx, impl.decoder->decoder(), z,
                 impl.backend->device().preferred_chunks().latent_frames,
                 [&](std::span<const std::uint8_t> rgb, std::int64_t frame_idx) {
                   has_frames = true;
                   sink(rgb, frame_idx);
                   reporter.report(frame_idx + 1);
                 });
  };
  impl.run_stage(Component::kDecoder, run, [&] { return !has_frames; });
  if (!impl.keeps_networks) impl.decoder.reset();
}

Latents Engine::encode(std::span<const std::uint8_t> rgb, const VideoSize& size) {
  Observer observer;
  return encode(rgb, size, observer);
}

Latents Engine::encode(std::span<const std::uint8_t> rgb, const VideoSize& size,
                       Observer& observer) {
  Impl& impl = checked_impl();
  const BusyScope busy(impl.is_busy);
  const Latents latents = model().latent_size(size);
  const Shape frames_shape{size.num_frames, size.height, size.width, 3};
  if (std::ssize(rgb) != frames_shape.num_elements()) {
    refuse("rgb", "wanted {} bytes for {}, found {}", frames_shape.num_elements(),
           frames_shape.to_string(), rgb.size());
  }
  Latents result;
  const StopFn should_stop = [&] { return observer.should_stop(); };
  const auto run = [&] {
    if (!impl.encoder) impl.encoder.emplace(impl.directory(), impl.load_options(observer));
    Arena scratch(impl.backend->allocator());
    Context ctx{*impl.backend, scratch, &should_stop};
    const StopScope stop(should_stop);
    ProgressReporter reporter(observer, Phase::kEncoding, size.num_frames);
    const Tensor frames = impl.upload_frames(rgb, frames_shape);
    const Tensor z(DType::kF32, shape_of(latents), impl.backend->allocator());
    impl.encoder->encoder().encode(ctx, frames, z);
    result = download_latents(*impl.backend, z);
    reporter.report(size.num_frames);
  };
  impl.run_stage(Component::kEncoder, run, [] { return true; });
  if (!impl.keeps_networks) impl.encoder.reset();
  return result;
}

}  // namespace mochi
