#include "mochi/convert.h"

#include <algorithm>
#include <array>
#include <memory>
#include <span>
#include <utility>

#include "base/atomic_file.h"
#include "base/error.h"
#include "base/file_target.h"
#include "dit/lora.h"
#include "io/gguf.h"
#include "io/scaled_source.h"
#include "io/weights_stream.h"
#include "pipeline/component.h"
#include "pipeline/inspect.h"
#include "pipeline/model_directory.h"
#include "pipeline/progress_reporter.h"
#include "tensor/float_arrays.h"
#include "text/llama_cpp_layout.h"
#include "text/t5_weights.h"
#include "weights/weight_format.h"

namespace mochi {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kSafetensorsEnding = ".safetensors";
constexpr std::string_view kScaleEnding = "_scale";  // after ".weight"
constexpr std::string_view kFormatEnding = ".comfy_quant";
constexpr std::string_view kFp8Format = R"({"format": "float8_e4m3fn"})";
constexpr std::array<std::string_view, kNetworkKinds.size()> kNetworkNames{
    "transformer", "text-encoder", "decoder", "encoder"};

Component component_of(NetworkKind kind) {
  switch (kind) {
    case NetworkKind::kTransformer:
      return Component::kDit;
    case NetworkKind::kTextEncoder:
      return Component::kTextEncoder;
    case NetworkKind::kDecoder:
      return Component::kDecoder;
    case NetworkKind::kEncoder:
      return Component::kEncoder;
  }
  return Component::kDit;
}

bool is_gguf_name(const fs::path& path) { return path.string().ends_with(kGgufEnding); }

void check_options(const ConvertOptions& options) {
  const std::string output = options.output.string();
  const std::string_view format = name_of(options.format);
  const bool is_gguf_output = is_gguf_name(options.output);
  if (!is_gguf_output && !output.ends_with(kSafetensorsEnding)) {
    refuse("to", "wanted an output that ends in .safetensors or .gguf, found '{}'", output);
  }
  if (is_gguf_output && options.format == WeightFormat::kFp8) {
    refuse("to", "fp8 is written to .safetensors files, found '{}'", output);
  }
  if (!is_gguf_output && block_format_of(options.format)) {
    refuse("to", "{} is written to .gguf files, found '{}'", format, output);
  }
}

// A network, as it is stored, and what is known of its sizes.
struct Input {
  std::shared_ptr<StoredSource> stored;
  Component component = Component::kDit;
  std::optional<ModelConfig> config;
  std::vector<fs::path> files;  // which the output must not replace
};

Input open_directory_input(const ConvertOptions& options) {
  const ModelDirectory directory(options.input);
  const Component component = component_of(options.network.value_or(NetworkKind::kTransformer));
  return {directory.stored(component), component, directory.config(), directory.files()};
}

Input open_file_input(const ConvertOptions& options) {
  const std::shared_ptr<StoredSource> file = open_weights(options.input);
  std::vector<Input> found;
  for (const NetworkKind kind : kNetworkKinds) {
    if (options.network && kind != *options.network) continue;
    const Component component = component_of(kind);
    const std::shared_ptr<StoredSource> network = find_component(file, component);
    if (network == nullptr) continue;
    found.push_back({network, component, find_config(options.input), file->files()});
  }
  if (found.empty()) {
    fail("'{}' holds no {} of a Mochi model", options.input.string(),
         options.network ? component_name(component_of(*options.network)) : "network");
  }
  if (found.size() > 1) {
    refuse("network", "wanted one of the networks in '{}', which holds the {} and the {}",
           options.input.string(), component_name(found[0].component),
           component_name(found[1].component));
  }
  return std::move(found.front());
}

Input open_input(const ConvertOptions& options) {
  std::error_code ignored;
  Input input = fs::is_directory(options.input, ignored) ? open_directory_input(options)
                                                         : open_file_input(options);
  const bool is_vae =
      input.component == Component::kDecoder || input.component == Component::kEncoder;
  const bool is_half =
      options.format == WeightFormat::kBf16 || options.format == WeightFormat::kFp16;
  if (is_vae && !is_half) {
    refuse("to", "the {} is converted to bf16 or fp16 only, found {}",
           component_name(input.component), name_of(options.format));
  }
  if (input.component != Component::kDit && !options.loras.empty()) {
    refuse("loras", "a LoRA changes the transformer, not the {}", component_name(input.component));
  }
  for (const Lora& lora : options.loras) input.files.push_back(lora.path);
  input.files.push_back(options.input);  // an index of shards
  for (const fs::path& file : input.files) {
    if (same_file(file, options.output)) {
      fail("'{}' is a file to convert: give the output another name", options.output.string());
    }
  }
  return input;
}

LoraDeltas read_loras(const Input& input, const std::vector<Lora>& loras,
                      std::vector<std::string>& warnings) {
  LoraDeltas deltas;
  if (loras.empty()) return deltas;
  const ModelConfig config =
      input.config ? *input.config : infer_component_config(input.stored, input.component);
  for (const Lora& lora : loras) {
    const auto file = add_lora(lora.path, lora.scale, config.dit, deltas);
    if (std::string warning = warn_of_zero_alphas(*file); !warning.empty()) {
      warnings.push_back(std::move(warning));
    }
  }
  return deltas;
}

// T5 keeps its own names. A decoder and a second copy of the table are left out.
std::vector<std::string> names_to_write(const TensorSource& source, Component component) {
  std::vector<std::string> names = source.names();
  if (component != Component::kTextEncoder) return names;
  const std::string table = t5_embedding_key(source);
  std::erase_if(names, [&](const std::string& name) {
    return name != table && !name.starts_with("encoder.block.") &&
           name != "encoder.final_layer_norm.weight";
  });
  return names;
}

class Conversion {
 public:
  Conversion(std::shared_ptr<const TensorSource> source, Component component,
             const ConvertOptions& options)
      : source_(std::move(source)),
        component_(component),
        format_(options.format),
        is_gguf_(is_gguf_name(options.output)) {
    for (const std::string& name : names_to_write(*source_, component_)) plan(name);
  }

  const std::vector<PlannedTensor>& tensors() const { return tensors_; }
  std::int64_t num_converted() const { return num_converted_; }

  void produce(const PlannedTensor& tensor, const WriteBytesFn& write) const {
    const Task& task = tasks_.at(tensor.name);
    switch (task.kind) {
      case Kind::kStored:
        for (const StoredRows& part : source_->stored_rows(task.source_name)) {
          require_finite(task.source_name, source_->info(task.source_name).origin, part);
          write(part.bytes);
        }
        return;
      case Kind::kValues:
        return write_values(task.source_name, tensor, write);
      case Kind::kScales: {
        const CompactMatrix matrix = read_compact(task.source_name, DType::kF8E4M3);
        return write(std::as_bytes(std::span(matrix.scales)));
      }
      case Kind::kFormat:
        return write(std::as_bytes(std::span(kFp8Format)));
    }
  }

 private:
  enum class Kind : std::uint8_t { kStored, kValues, kScales, kFormat };
  struct Task {
    Kind kind = Kind::kStored;
    std::string source_name;
  };

  void plan(const std::string& name) {
    const TensorInfo info = source_->info(name);
    if (!info.has_values()) {
      fail("tensor '{}' in '{}': wanted floats, found {}", name, info.origin,
           storage_type_name(info.type));
    }
    const std::optional<StorageType> converted = type_in_format(format_, name, info.shape);
    if (converted) ++num_converted_;
    const bool keeps_type = !info.is_scaled && !is_compact(info.type);
    const StorageType target =
        converted.value_or(keeps_type ? info.type : StorageType(DType::kF32));
    const std::string type = storage_type_name(target);
    // Blocks that have the wanted format are copied, because encoding them again would change them.
    const bool has_blocks = std::holds_alternative<BlockFormat>(target) && target == info.type;
    const bool is_stored = has_blocks || (!converted && keeps_type);
    add(is_gguf_ && component_ == Component::kTextEncoder ? to_llama_cpp_t5_name(name) : name, type,
        info.shape, {is_stored ? Kind::kStored : Kind::kValues, name});
    if (type != dtype_name(DType::kF8E4M3)) return;
    add(name + std::string(kScaleEnding), dtype_name(DType::kF32), Shape{info.shape[0]},
        {Kind::kScales, name});
    add(name.substr(0, name.rfind('.')) + std::string(kFormatEnding), dtype_name(DType::kU8),
        Shape{std::ssize(kFp8Format)}, {Kind::kFormat, name});
  }

  void add(const std::string& name, const std::string& type, const Shape& shape, const Task& task) {
    const std::span<const std::int64_t> sizes = shape.sizes();
    PlannedTensor tensor{name, type, {sizes.begin(), sizes.end()}};
    const std::optional<StorageType> storage = parse_storage_type(type);
    if (storage) tensor.num_bytes = storage_bytes(*storage, shape.num_elements());
    tensors_.push_back(std::move(tensor));
    tasks_.emplace(name, task);
  }

  Tensor read_values(const std::string& name) const {
    Tensor values(DType::kF32, source_->info(name).shape);
    source_->read(name, values);
    return values;
  }

  CompactMatrix read_compact(const std::string& name, const StorageType& type) const {
    const Tensor values = read_values(name);
    try {
      return to_compact(values.view().f32(), values.view().dim(0), type);
    } catch (const Error& error) {
      fail("tensor '{}' in '{}': {}", name, source_->info(name).origin, error.what());
    }
  }

  void write_values(const std::string& name, const PlannedTensor& tensor,
                    const WriteBytesFn& write) const {
    if (const auto type = parse_storage_type(tensor.type); type && is_compact(*type)) {
      return write(read_compact(name, *type).elements);
    }
    const Tensor values = read_values(name);
    const std::span<const float> floats = values.view().f32();
    if (tensor.type == dtype_name(DType::kF32)) return write(std::as_bytes(floats));
    std::vector<std::byte> bytes(tensor.num_bytes);
    const bool is_bf16 = tensor.type == dtype_name(DType::kBF16);
    if (is_bf16) {
      convert_to_bf16(DType::kF32, std::as_bytes(floats),
                      {reinterpret_cast<BFloat16*>(bytes.data()), floats.size()});
    } else {
      convert_to_f16(floats, {reinterpret_cast<std::uint16_t*>(bytes.data()), floats.size()});
    }
    if (!all_finite(is_bf16 ? DType::kBF16 : DType::kF16, bytes)) {
      fail("tensor '{}' in '{}': has values that are too large for {}", name,
           source_->info(name).origin, tensor.type);
    }
    write(bytes);
  }

  std::shared_ptr<const TensorSource> source_;
  Component component_;
  WeightFormat format_;
  bool is_gguf_;
  std::vector<PlannedTensor> tensors_;
  std::map<std::string, Task> tasks_;
  std::int64_t num_converted_ = 0;
};

std::uint64_t stored_bytes(const StoredSource& stored) {
  std::uint64_t sum = 0;
  for (const std::string& name : stored.names()) sum += stored.entry(name).bytes.size();
  return sum;
}

void write_file(const ConvertOptions& options, Component component,
                const std::vector<PlannedTensor>& tensors, const ProduceTensorFn& produce) {
  if (!is_gguf_name(options.output)) {
    return stream_safetensors(options.output, tensors, {{"format", "pt"}}, produce);
  }
  const char* const architecture = component == Component::kTextEncoder ? "t5encoder" : "mochi";
  constexpr std::uint32_t kQuantizationVersion = 2;
  const GgufMetadata metadata{{{"general.architecture", architecture}},
                              {{"general.file_type", gguf_file_type(options.format)},
                               {"general.quantization_version", kQuantizationVersion}}};
  stream_gguf(options.output, tensors, metadata, produce);
}

}  // namespace

std::string_view name_of(NetworkKind kind) {
  return kNetworkNames.at(static_cast<std::size_t>(kind));
}

std::optional<NetworkKind> parse_network_kind(std::string_view name) {
  const auto* const found = std::ranges::find(kNetworkNames, name);
  if (found == kNetworkNames.end()) return std::nullopt;
  return kNetworkKinds.at(static_cast<std::size_t>(found - kNetworkNames.begin()));
}

ConvertReport convert_weights(const ConvertOptions& options, Observer& observer) {
  check_options(options);
  const Input input = open_input(options);
  ConvertReport report;
  const LoraDeltas deltas = read_loras(input, options.loras, report.warnings);
  std::shared_ptr<TensorSource> source =
      input.component == Component::kTextEncoder
          ? with_scales(input.stored)
          : with_original_keys(input.stored, input.component, TextEncoderConfig());
  if (!deltas.empty()) source = std::make_shared<LoraMergedSource>(std::move(source), deltas);
  const Conversion conversion(std::move(source), input.component, options);
  const auto num_tensors = std::ssize(conversion.tensors());
  {
    const AtomicFile probe(options.output, SpecialFile::kRefuse);  // better now than after the work
  }
  ProgressReporter reporter(observer, Phase::kConverting, num_tensors,
                            component_name(input.component));
  write_file(options, input.component, conversion.tensors(),
             [&](const PlannedTensor& tensor, const WriteBytesFn& write) {
               conversion.produce(tensor, write);
               reporter.advance();
             });
  report.network = component_name(input.component);
  report.num_tensors = num_tensors;
  report.num_converted = conversion.num_converted();
  report.input_bytes = stored_bytes(*input.stored);
  report.output_bytes = fs::file_size(options.output);
  return report;
}

}  // namespace mochi
