#include "dit/lora.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "base/error.h"
#include "base/parallel_for.h"
#include "base/temp_folder.h"
#include "dit/dit_bench.h"
#include "dit/lora_tensors.h"
#include "io/same_tensors.h"
#include "tensor/float_arrays.h"

namespace mochi {
namespace {

const std::filesystem::path kGoldens = MOCHI_GOLDEN_DIR;
const std::filesystem::path kGenmo = kGoldens / "lora" / "genmo.safetensors";
const std::filesystem::path kDiffusers = kGoldens / "lora" / "diffusers.safetensors";
constexpr const char* kModel = "dit/a_weights";

LoraDeltas deltas_of(const std::map<std::filesystem::path, double>& scales) {
  LoraDeltas deltas;
  for (const auto& [path, scale] : scales) {
    add_lora(path, scale, golden_dit_config(Golden(kModel)), deltas);
  }
  return deltas;
}

std::string error_of(const std::filesystem::path& path) {
  return message_of<Error>([&] { deltas_of({{path, 1.0}}); });
}

// Returns ‖got − golden‖ / ‖golden‖ for the model with these LoRAs.
double error_with(const LoraDeltas& deltas, const std::string& output) {
  Bench bench(kModel, DType::kF32, deltas);
  const Golden golden("lora/case");
  const double error =
      relative_error(bench.velocity(golden, "input.text"), golden.values("output." + output));
  record_error(output, error);
  return error;
}

TEST(LoraGolden, GenmosSpelling) {
  EXPECT_GT(error_with({}, "final.genmo"), 0.1);  // the LoRA matters
  EXPECT_LE(error_with(deltas_of({{kGenmo, 1.0}}), "final.genmo"), 1e-5);
}

TEST(LoraGolden, DiffusersSpelling) {
  EXPECT_LE(error_with(deltas_of({{kDiffusers, 1.0}}), "final.diffusers"), 1e-5);
}

TEST(LoraGolden, SeveralWithScalesAddUp) {
  EXPECT_LE(error_with(deltas_of({{kGenmo, 0.75}, {kDiffusers, -0.5}}), "final.both"), 1e-5);
}

// Every kind of change, as peft and LyCORIS save and merge it.
class LoraKindGolden : public testing::TestWithParam<const char*> {};

std::filesystem::path kind_file(const std::string& name) {
  const std::filesystem::path folder = kGoldens / "lora_kinds";
  if (name.starts_with("peft")) return folder / name / "adapter_model.safetensors";
  return folder / (name + ".safetensors");
}

TEST_P(LoraKindGolden, MergesAsItsLibraryDoes) {
  const std::string prefix = std::string(GetParam()) + "/";
  const auto wanted = Checkpoint::open(kGoldens / "lora_kinds" / "merged.safetensors");
  const LoraDeltas deltas = deltas_of({{kind_file(GetParam()), 1.0}});
  const LoraMergedSource merged(Golden(kModel).weights(), deltas);
  std::size_t num_parameters = 0;
  for (const std::string& name : wanted->names()) {
    if (!name.starts_with(prefix)) continue;
    const std::string parameter = name.substr(prefix.size());
    EXPECT_TRUE(deltas.contains(parameter)) << parameter;
    EXPECT_LE(relative_error(read_all(merged, parameter), read_all(*wanted, name)), 1e-6)
        << parameter;
    ++num_parameters;
  }
  EXPECT_EQ(deltas.size(), num_parameters);
}

INSTANTIATE_TEST_SUITE_P(All, LoraKindGolden,
                         testing::Values("peft_dora", "peft_dora_rs", "peft_bias",
                                         "peft_convolution", "peft_loha", "peft_lokr",
                                         "peft_lokr_half", "peft_lokr_whole", "lycoris_lora",
                                         "lycoris_dora_rows", "lycoris_dora_columns",
                                         "lycoris_loha", "lycoris_lokr", "difference"),
                         [](const auto& golden) { return golden.param; });

// The change of a DoRA is that of the model's own weight, whatever else is added to it.
TEST(Lora, ChangesAddUpInAnyOrderAndByTheirScales) {
  const std::string name = "blocks.0.attn.proj_x.weight";
  const std::vector<float> base = read_all(*Golden(kModel).weights(), name);
  const auto merge = [&](const std::vector<std::pair<const char*, double>>& files) {
    LoraDeltas deltas;
    for (const auto& [file, scale] : files) {
      add_lora(kind_file(file), scale, golden_dit_config(Golden(kModel)), deltas);
    }
    return read_all(LoraMergedSource(Golden(kModel).weights(), deltas), name);
  };
  const std::vector<float> dora = merge({{"peft_dora", 1.0}});
  const std::vector<float> columns = merge({{"lycoris_dora_columns", 1.0}});
  const std::vector<float> lokr = merge({{"peft_lokr", 1.0}});
  std::vector<float> want = base;
  for (std::size_t i = 0; i < base.size(); ++i) {
    want[i] += 0.5F * (dora[i] - base[i]) - 0.25F * (columns[i] - base[i]) + (lokr[i] - base[i]);
  }
  EXPECT_LE(
      relative_error(
          merge({{"peft_dora", 0.5}, {"lycoris_dora_columns", -0.25}, {"peft_lokr", 1.0}}), want),
      1e-6);
  EXPECT_LE(
      relative_error(
          merge({{"peft_lokr", 1.0}, {"lycoris_dora_columns", -0.25}, {"peft_dora", 0.5}}), want),
      1e-6);
  EXPECT_EQ(merge({{"peft_dora", 0.0}, {"peft_lokr", 0.0}}), base);
}

TEST(Lora, Bf16WeightsAreRoundedAfterTheMerge) {
  const LoraDeltas deltas = deltas_of({{kGenmo, 1.0}});
  const LoraMergedSource merged(Golden(kModel).weights(), deltas);
  const std::string name = "blocks.1.attn.qkv_x.weight";
  const Tensor exact(DType::kF32, merged.info(name).shape);
  const Tensor rounded(DType::kBF16, merged.info(name).shape);
  merged.read(name, exact);
  merged.read(name, rounded);
  const auto* const bits = reinterpret_cast<const std::uint16_t*>(rounded.view().bytes());
  const std::span<const float> values = exact.view().f32();
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(bits[i], f32_to_bf16(values[i]));
}

TEST(Lora, ScaleZeroChangesNoBit) {
  const auto plain = Golden(kModel).weights();
  const LoraDeltas deltas = deltas_of({{kGenmo, 0.0}, {kDiffusers, 0.0}});
  const LoraMergedSource merged(Golden(kModel).weights(), deltas);
  for (const std::string& name : plain->names()) {
    const StoredRows want = plain->stored_rows(name).front();
    const StoredRows got = merged.stored_rows(name).front();
    EXPECT_TRUE(std::ranges::equal(got.bytes, want.bytes)) << name;
  }
}

TEST(Lora, ScaleZeroKeepsNegativeZeros) {
  const TempFolder folder;
  const std::string name = "blocks.0.attn.proj_x.weight";
  LoraTensors weights;
  weights.add(name, {48, 48}, std::vector<float>(48 * 48, -0.0F));
  weights.write(folder / "a.safetensors");
  const LoraDeltas deltas = deltas_of({{kGenmo, 0.0}});
  const LoraMergedSource merged(Checkpoint::open(folder / "a.safetensors"), deltas);
  for (const float value : read_all(merged, name)) ASSERT_TRUE(std::signbit(value));
}

TEST(Lora, OnlyTheNamedLayersChange) {
  const auto plain = Golden(kModel).weights();
  const LoraDeltas deltas = deltas_of({{kGenmo, 1.0}});
  const LoraMergedSource merged(Golden(kModel).weights(), deltas);
  int num_changed = 0;
  for (const std::string& name : plain->names()) {
    const bool is_changed = read_all(merged, name) != read_all(*plain, name);
    const bool is_attention =
        name.find("attn.qkv") != std::string::npos ||
        (name.find("attn.proj") != std::string::npos && name.ends_with(".weight"));
    EXPECT_EQ(is_changed, is_attention) << name;
    num_changed += is_changed ? 1 : 0;
  }
  EXPECT_EQ(num_changed, 11);
  EXPECT_TRUE(merged.unread().empty());
}

TEST(Lora, MergedRowsOutliveTheirSource) {
  const LoraDeltas deltas = deltas_of({{kGenmo, 1.0}});
  const std::string name = "blocks.0.attn.proj_x.weight";
  auto merged = std::make_unique<LoraMergedSource>(Golden(kModel).weights(), deltas);
  const std::vector<float> want = read_all(*merged, name);
  const StoredRows rows = merged->stored_rows(name).front();
  merged.reset();
  EXPECT_TRUE(std::ranges::equal(rows.bytes, std::as_bytes(std::span(want))));
}

TEST(Lora, SameBitsForAnyThreads) {
  const LoraDeltas deltas = deltas_of({{kDiffusers, 1.0}});
  const LoraMergedSource merged(Golden(kModel).weights(), deltas);
  const std::string name = "blocks.0.mlp_x.w1.weight";
  set_num_threads(1);
  const std::vector<float> one = read_all(merged, name);
  set_num_threads(3);
  EXPECT_EQ(read_all(merged, name), one);
  set_num_threads(0);
}

// The map of layers must equal that of whole weights: a LoRA whose product is a diffusers weight,
// added to zeros, gives the original weight.
TEST(Lora, LayersOfDiffusersAreMappedAsWholeWeights) {
  const std::filesystem::path formats = kGoldens / "formats";
  const auto original = Checkpoint::open(formats / "dit_f32.safetensors");
  const auto stored = Checkpoint::open(formats / "diffusers/transformer");
  const LoraTargets targets(infer_dit_config(*original));
  std::map<std::string, std::vector<float>> built;
  int num_layers = 0;
  for (const std::string& name : stored->names()) {
    const std::size_t dot = name.rfind('.');
    if (dot == std::string::npos) continue;  // pos_frequencies
    const std::string module = name.substr(0, dot);
    const bool is_bias = name.substr(dot) == ".bias";
    const LoraTarget* const target =
        is_bias ? targets.find_bias(module) : targets.find_weight(module);
    ASSERT_NE(target, nullptr) << name;
    const std::vector<float> values = read_all(*stored, name);
    ASSERT_EQ(std::ssize(values), target->out_features * target->in_features) << name;
    std::vector<float>& weight = built[target->parameter];
    weight.resize(static_cast<std::size_t>(original->info(target->parameter).shape.num_elements()));
    for (const LoraRows& rows : target->rows) {
      std::copy_n(values.begin() + rows.begin * target->in_features,
                  rows.count * target->in_features,
                  weight.begin() + rows.target * target->in_features);
    }
    ++num_layers;
  }
  EXPECT_GT(num_layers, 50);
  for (const std::string& name : original->names()) {
    if (name.find('.') == std::string::npos) continue;
    EXPECT_EQ(built[name], read_all(*original, name)) << name;
  }
}

TEST(Lora, EveryLayerHasNamesWithUnderscoresToo) {
  const LoraTargets targets(golden_dit_config(Golden(kModel)));
  const std::vector<std::string> modules = targets.modules();
  EXPECT_GT(modules.size(), 60U);
  for (const std::string& module : modules) {
    for (const char* prefix : {"lora_unet_", "lora_transformer_", "lycoris_"}) {
      std::string flat = prefix + module;
      std::ranges::replace(flat, '.', '_');
      ASSERT_NE(targets.find_weight(flat), nullptr) << flat;
      EXPECT_EQ(targets.find_weight(flat), targets.find_weight(module)) << flat;
      EXPECT_EQ(targets.find_bias(flat), targets.find_bias(module)) << flat;
    }
  }
  EXPECT_EQ(targets.find_weight("blocks_0_attn_qkv_x"), nullptr);
  EXPECT_EQ(targets.find_weight("lora_unet_blocks.0.attn.qkv_x"), nullptr);
}

TEST(Lora, AnotherModelsSizeIsRefusedWithTheTensor) {
  const TempFolder folder;
  LoraTensors lora;
  lora.add("blocks.0.attn.qkv_x.lora_A", {4, 64});
  lora.add("blocks.0.attn.qkv_x.lora_B", {192, 4});
  lora.write(folder / "wide.safetensors");
  const std::string wide = error_of(folder / "wide.safetensors");
  expect_contains(wide, "tensor 'blocks.0.attn.qkv_x.lora_A' in '");
  expect_contains(wide, "wide.safetensors': wanted shape [4, 48], found [4, 64]");

  LoraTensors tall;
  tall.add("transformer_blocks.0.attn1.to_k.lora_A.weight", {2, 48});
  tall.add("transformer_blocks.0.attn1.to_k.lora_B.weight", {144, 2});
  tall.write(folder / "tall.safetensors");
  expect_contains(error_of(folder / "tall.safetensors"),
                  "tensor 'transformer_blocks.0.attn1.to_k.lora_B.weight'");
  expect_contains(error_of(folder / "tall.safetensors"), "wanted shape [48, 2], found [144, 2]");

  LoraTensors deep;
  deep.add("blocks.11.attn.proj_x.lora_A", {2, 48});
  deep.add("blocks.11.attn.proj_x.lora_B", {48, 2});
  deep.write(folder / "deep.safetensors");
  expect_contains(error_of(folder / "deep.safetensors"),
                  "tensor 'blocks.11.attn.proj_x.lora_A' in '");
  expect_contains(error_of(folder / "deep.safetensors"), "the model has 3 blocks, found block 11");
}

TEST(Lora, UnknownLayersAreRefusedWithTheNearest) {
  const TempFolder folder;
  LoraTensors lora;
  lora.add("diffusion_model.blocks.0.attn.qkvx.lora_A", {4, 48});
  lora.add("diffusion_model.blocks.0.attn.qkvx.lora_B", {144, 4});
  lora.write(folder / "a.safetensors");
  const std::string message = error_of(folder / "a.safetensors");
  expect_contains(message, "tensor 'diffusion_model.blocks.0.attn.qkvx.lora_A'");
  expect_contains(message, "no layer 'blocks.0.attn.qkvx', did you mean 'blocks.0.attn.qkv_x'?");
  // The last block's text stream ends with its keys and values.
  LoraTensors last;
  last.add("blocks.2.attn.proj_y.lora_A", {4, 48});
  last.add("blocks.2.attn.proj_y.lora_B", {40, 4});
  last.write(folder / "b.safetensors");
  expect_contains(error_of(folder / "b.safetensors"), "no layer 'blocks.2.attn.proj_y'");
}

TEST(Lora, UnknownLayersWithUnderscoresAreRefusedToo) {
  const TempFolder folder;
  const auto error_with = [&folder](const std::string& layer) {
    LoraTensors lora;
    lora.add(layer + ".lora_down.weight", {4, 48});
    lora.add(layer + ".lora_up.weight", {144, 4});
    lora.write(folder / "a.safetensors");
    return error_of(folder / "a.safetensors");
  };
  expect_contains(error_with("lora_unet_blocks_0_attn_qkvx"),
                  "no layer 'lora_unet_blocks_0_attn_qkvx', did you mean "
                  "'lora_unet_blocks_0_attn_qkv_x'?");
  expect_contains(error_with("lora_unet_blocks_11_attn_qkv_x"),
                  "the model has 3 blocks, found block 11");
  expect_contains(error_with("lora_transformer_transformer_blocks_7_attn1_to_q"),
                  "the model has 3 blocks, found block 7");
  expect_contains(error_with("lora_unet_double_blocks_0_img_attn_qkv"), "the model has no layer");
}

TEST(Lora, SizesOfEveryKindAreChecked) {
  const TempFolder folder;
  const auto error_with = [&folder](const std::map<std::string, Shape>& tensors) {
    LoraTensors lora;
    for (const auto& [name, shape] : tensors) lora.add("blocks.0.attn." + name, shape);
    lora.write(folder / "a.safetensors");
    return error_of(folder / "a.safetensors");
  };
  expect_contains(error_with({{"qkv_x.lora_A", {2, 48}},
                              {"qkv_x.lora_B", {144, 2}},
                              {"qkv_x.lora_magnitude_vector", {48}}}),
                  "qkv_x.lora_magnitude_vector' in '");
  expect_contains(
      error_with(
          {{"qkv_x.lora_A", {2, 48}}, {"qkv_x.lora_B", {144, 2}}, {"qkv_x.dora_scale", {144, 48}}}),
      "wanted shape [144] or [1, 48], found [144, 48]");
  expect_contains(error_with({{"qkv_x.hada_w1_a", {144, 2}},
                              {"qkv_x.hada_w1_b", {2, 48}},
                              {"qkv_x.hada_w2_a", {144, 2}},
                              {"qkv_x.hada_w2_b", {2, 47}}}),
                  "qkv_x.hada_w2_b' in '");
  expect_contains(error_with({{"qkv_x.lokr_w1", {3, 2}}, {"qkv_x.lokr_w2", {48, 23}}}),
                  "wanted a Kronecker product of shape [144, 48], found [3, 2] by [48, 23]");
  expect_contains(error_with({{"qkv_x.lokr_w1", {0, 2}}, {"qkv_x.lokr_w2", {48, 24}}}),
                  "found [0, 2] by [48, 24]");
  expect_contains(error_with({{"qkv_x.diff", {48, 144}}}),
                  "wanted shape [144, 48], found [48, 144]");
  expect_contains(error_with({{"proj_x.diff_b", {47}}}), "wanted shape [48], found [47]");
  expect_contains(error_with({{"qkv_x.diff_b", {144}}}),
                  "the model's layer 'blocks.0.attn.qkv_x' has no bias");
}

TEST(Lora, DorasKeepRowsOfZeros) {
  const TempFolder folder;
  const std::string layer = "blocks.0.attn.proj_x";
  LoraTensors weights;
  weights.add(layer + ".weight", {48, 48}, std::vector<float>(48 * 48, 0.0F));
  weights.write(folder / "weights.safetensors");
  LoraTensors lora;
  lora.add(layer + ".lora_A", {1, 48}, std::vector<float>(48, 0.0F));
  lora.add(layer + ".lora_B", {48, 1}, std::vector<float>(48, 0.0F));
  lora.add(layer + ".lora_magnitude_vector", {48}, std::vector<float>(48, 2.0F));
  lora.write(folder / "a.safetensors");
  const LoraDeltas deltas = deltas_of({{folder / "a.safetensors", 1.0}});
  const LoraMergedSource merged(Checkpoint::open(folder / "weights.safetensors"), deltas);
  for (const float value : read_all(merged, layer + ".weight")) ASSERT_EQ(value, 0.0F);
}

TEST(Lora, ValuesThatAreNotFiniteAreRefused) {
  const TempFolder folder;
  const auto error_with = [&](float value, float alpha) {
    const LoraTargets targets(golden_dit_config(Golden(kModel)));
    const LoraTarget& target = *targets.find_weight("blocks.0.attn.qkv_x");
    const Shape down{2, target.in_features};
    LoraTensors lora;
    lora.add("blocks.0.attn.qkv_x.lora_A", down,
             std::vector<float>(static_cast<std::size_t>(down.num_elements()), value));
    lora.add("blocks.0.attn.qkv_x.lora_B", {target.out_features, 2});
    lora.add("blocks.0.attn.qkv_x.alpha", {}, {alpha});
    lora.write(folder / "a.safetensors");
    const LoraDeltas deltas = deltas_of({{folder / "a.safetensors", 1.0}});
    const LoraMergedSource merged(Golden(kModel).weights(), deltas);
    return message_of<Error>([&] { merged.stored_rows("blocks.0.attn.qkv_x.weight"); });
  };
  const std::string file = "'" + (folder / "a.safetensors").string() + "'";
  EXPECT_EQ(error_with(std::nanf(""), 2.0F),
            "tensor 'blocks.0.attn.qkv_x.lora_A' in " + file +
                ": has values that are not finite (NaN or infinite)");
  EXPECT_EQ(error_with(1e20F, 1e30F),
            "LoRA " + file +
                " makes values of 'blocks.0.attn.qkv_x.weight' infinite: its alpha or "
                "its scale is too large");
}

TEST(Lora, ScaleMustBeFinite) {
  const std::string message = message_of<Error>([] { deltas_of({{kGenmo, NAN}}); });
  expect_contains(message, "loras: wanted a finite scale");
}

}  // namespace
}  // namespace mochi
