#include "pipeline/inspect.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <set>
#include <utility>

#include "base/error.h"
#include "dit/lora_alpha.h"
#include "dit/lora_file.h"
#include "io/checkpoint.h"
#include "io/renamed_source.h"
#include "io/scaled_source.h"
#include "pipeline/model_candidates.h"
#include "pipeline/model_directory.h"
#include "pipeline/networks.h"

namespace mochi {
namespace {

using Sizes = std::vector<std::pair<std::string, std::string>>;

Sizes sizes_of_vae(const VaeConfig& vae, Component component) {
  const bool is_decoder = component == Component::kDecoder;
  const auto& channels = is_decoder ? vae.decoder_channels : vae.encoder_channels;
  const auto& res_blocks = is_decoder ? vae.decoder_res_blocks : vae.encoder_res_blocks;
  return {{"latent channels", fmt::to_string(vae.latent_channels)},
          {"channels", fmt::format("{}", fmt::join(channels, ", "))},
          {"residual blocks", fmt::format("{}", fmt::join(res_blocks, ", "))}};
}

Sizes sizes_of(const ModelConfig& config, Component component) {
  const TextEncoderConfig& text = config.text_encoder;
  const DitConfig& dit = config.dit;
  switch (component) {
    case Component::kTextEncoder:
      return {{"layers", fmt::to_string(text.num_layers)},
              {"width", fmt::to_string(text.hidden_size)},
              {"heads", fmt::format("{} x {}", text.num_heads, text.head_dim)},
              {"feed-forward", fmt::to_string(text.feed_forward_size)},
              {"vocabulary", fmt::to_string(text.vocab_size)}};
    case Component::kDit:
      return {{"depth", fmt::to_string(dit.depth)},
              {"heads", fmt::format("{} x {}", dit.num_heads, dit.head_dim())},
              {"width", fmt::format("{} visual, {} text", dit.hidden_size_x, dit.hidden_size_y)},
              {"MLP", fmt::format("{} visual, {} text", dit.mlp_hidden_x, dit.mlp_hidden_y)},
              {"text features", fmt::format("{} x {}", dit.max_text_tokens, dit.text_width)}};
    default:
      return sizes_of_vae(config.vae, component);
  }
}

// Looks for every parameter that the sizes require.
void compare(const Parameters& parameters, const TensorSource& source, ComponentReport& report) {
  for (const auto& [name, shape] : parameters) {
    if (!source.contains(name)) {
      report.missing.push_back(name);
      continue;
    }
    try {
      require_weight(source, name, shape);
    } catch (const Error& error) {
      report.wrong.emplace_back(error.what());
    }
    source.stored_rows(name);  // marks it as read
  }
  report.unexpected = source.unread();
}

// Returns true if a tensor of a file with both halves of a VAE belongs to this half.
bool belongs(const std::string& name, Component component) {
  if (component == Component::kDecoder) return !name.starts_with("encoder.");
  if (component == Component::kEncoder) return !name.starts_with("decoder.");
  return true;
}

void count(const StoredSource& stored, Component component, ComponentReport& report) {
  for (const std::string& name : stored.names()) {
    if (!belongs(name, component)) continue;
    const StoredEntry& entry = stored.entry(name);
    std::int64_t num_parameters = 1;
    for (const std::int64_t size : entry.sizes) num_parameters *= size;
    ++report.num_tensors;
    report.num_parameters += num_parameters;
    report.stored_bytes += entry.bytes.size();
    report.parameters_by_dtype[entry.dtype_name] += num_parameters;
  }
}

// Returns whose layout a network's file has, and how its weights are stored.
std::string describe_layout(const StoredSource& stored, Component component) {
  const std::string prefix = stored.prefix();
  std::string layout = component == Component::kTextEncoder ? "transformers" : "genmo";
  if (is_diffusers_layout(stored, component)) layout = "diffusers";
  if (dynamic_cast<const RenamedSource*>(&stored) != nullptr) layout = "llama.cpp";
  if (!prefix.empty()) layout = fmt::format("ComfyUI, below '{}'", prefix);
  const ScaleSummary scales = summarise_scales(stored);
  if (scales.has_scales) layout += "; 8-bit weights with scales";
  if (scales.has_input_scales) layout += "; scales of inputs are not used";
  return layout;
}

// Returns the part of the report that does not need the sizes.
ComponentReport describe_component(Component component, const StoredSource& stored) {
  ComponentReport report;
  report.name = component_name(component);
  for (const auto& file : stored.files()) report.files.push_back(file.string());
  report.layout = describe_layout(stored, component);
  count(stored, component, report);
  return report;
}

ComponentReport report_component(const ModelConfig& config, Component component,
                                 const std::shared_ptr<StoredSource>& stored) {
  ComponentReport report = describe_component(component, *stored);
  report.sizes = sizes_of(config, component);
  const auto source = with_original_keys(stored, component, config.text_encoder);
  compare(parameters_of(config, component), *source, report);
  return report;
}

// Without a config.json some small models do not show all of their sizes. Throws Error if the
// weights are stored in a way that is not read.
ComponentReport report_inferred(Component component, const std::shared_ptr<StoredSource>& stored) {
  with_scales(stored);
  ModelConfig config;
  try {
    config = infer_component_config(stored, component);
  } catch (const Error& error) {
    ComponentReport report = describe_component(component, *stored);
    report.wrong.push_back(
        fmt::format("its sizes cannot be determined without a config.json: {}", error.what()));
    return report;
  }
  return report_component(config, component, stored);
}

void list_tensors(const StoredSource& stored, InspectReport& report) {
  for (const std::string& name : stored.names()) {
    const StoredEntry& entry = stored.entry(name);
    report.tensors.push_back({stored.prefix() + name, entry.dtype_name, entry.sizes});
  }
}

// Adds what `describe` returns, or the line of the Error that it throws.
template <typename Describe>
void add_component(const Describe& describe, InspectReport& report) {
  try {
    report.components.push_back(describe());
  } catch (const Error& error) {
    // One file may be the reason for several networks.
    const std::string problem = error.what();
    const bool is_new = std::ranges::find(report.problems, problem) == report.problems.end();
    if (is_new) report.problems.push_back(problem);
  }
}

InspectReport inspect_directory(const ModelDirectory& directory) {
  InspectReport report;
  report.notes = directory.notes();
  report.has_config_file = directory.has_config_file();
  const StoredSource* listed = nullptr;
  for (const Component component : kAllComponents) {
    const bool has_files = directory.has(component) || !directory.problem(component).empty();
    if (!has_files) {
      report.not_found.emplace_back(component_name(component));
      report.missing_parts.insert(part_of(component));
      if (const std::string reason = directory.bystander(component); !reason.empty()) {
        report.notes.push_back(fmt::format("a file that may be the {} cannot be used: {}",
                                           component_name(component), reason));
      }
      continue;
    }
    add_component(
        [&] {
          return report_component(directory.config(), component, directory.stored(component));
        },
        report);
    if (!directory.has(component)) continue;
    const std::shared_ptr<StoredSource> stored = directory.stored(component);
    // Both halves of a VAE may be one file.
    if (stored.get() != listed) list_tensors(*stored, report);
    listed = stored.get();
  }
  if (const auto tokenizer = directory.find_tokenizer()) {
    report.tokenizer = tokenizer->string();
  } else {
    report.not_found.emplace_back("tokenizer");
    report.missing_parts.insert(ModelPart::kTokenizer);
  }
  return report;
}

// Returns the file if it is a LoRA, which only safetensors files are; otherwise null.
std::shared_ptr<Checkpoint> as_lora(const std::shared_ptr<StoredSource>& file) {
  auto checkpoint = std::dynamic_pointer_cast<Checkpoint>(file);
  return checkpoint != nullptr && holds_lora(*checkpoint) ? checkpoint : nullptr;
}

LoraReport report_lora(const LoraFile& file) {
  const Checkpoint& checkpoint = file.checkpoint();
  LoraReport report;
  report.file = file.name();
  std::set<std::string> modules, spellings;
  std::set<std::int64_t> ranks;
  std::set<double> alphas;
  for (const LoraLayer& layer : file.layers()) {
    modules.insert(layer.module);
    spellings.emplace(lora_spelling_name(layer.spelling));
    ++report.num_by_kind[std::string(layer.kind_name())];
    if (layer.rank > 0) ranks.insert(layer.rank);
    if (layer.has_alpha) alphas.insert(layer.alpha);
    if (layer.rank > 0 && !layer.has_alpha) report.has_default_alphas = true;
    for (const std::string& name : layer.tensor_names()) {
      report.num_parameters += checkpoint.info(name).shape.num_elements();
      report.stored_bytes += checkpoint.entry(name).bytes.size();
    }
  }
  report.num_layers = std::ssize(modules);
  report.spellings.assign(spellings.begin(), spellings.end());
  report.ranks.assign(ranks.begin(), ranks.end());
  report.alphas.assign(alphas.begin(), alphas.end());
  return report;
}

}  // namespace

std::optional<ModelConfig> find_config(const std::filesystem::path& file) {
  const std::filesystem::path path = model_folder_of(file) / "config.json";
  if (!std::filesystem::exists(path) || !is_model_config(path)) return std::nullopt;
  return read_model_config(path);
}

InspectReport inspect_weights(const std::shared_ptr<StoredSource>& file,
                              const std::optional<ModelConfig>& config) {
  InspectReport report;
  list_tensors(*file, report);
  if (const auto checkpoint = as_lora(file)) {
    const LoraFile lora(checkpoint);
    report.lora = report_lora(lora);
    const std::string warning = warn_of_zero_alphas(lora);
    if (!warning.empty()) report.notes.push_back(warning);
    return report;
  }
  report.has_config_file = config.has_value();
  for (const Component component : kAllComponents) {
    const std::shared_ptr<StoredSource> network = find_component(file, component);
    if (network == nullptr) continue;
    add_component(
        [&] {
          return config ? report_component(*config, component, network)
                        : report_inferred(component, network);
        },
        report);
  }
  return report;
}

InspectReport inspect_model(const std::filesystem::path& path) {
  if (std::filesystem::is_directory(path)) {
    // A model folder has no file of this name.
    const std::filesystem::path lora = path / kPeftLoraFile;
    std::error_code ignored;
    return std::filesystem::exists(lora, ignored) ? inspect_model(lora)
                                                  : inspect_directory(ModelDirectory(path));
  }
  const std::shared_ptr<StoredSource> file = open_weights(path);
  return inspect_weights(file, as_lora(file) ? std::nullopt : find_config(path));
}

InspectReport inspect_model(const std::filesystem::path& model_dir, const ModelPaths& paths) {
  return inspect_directory(ModelDirectory(model_dir, paths));
}

}  // namespace mochi
