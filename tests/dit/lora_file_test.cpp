#include "dit/lora_file.h"

#include <gtest/gtest.h>

#include <cmath>

#include "base/error.h"
#include "base/temp_folder.h"
#include "dit/lora_tensors.h"

namespace mochi {
namespace {

class LoraFiles : public testing::Test {
 protected:
  // A file with one layer of rank 4, by the endings of its two matrices.
  std::filesystem::path write_pair(const std::string& prefix, const std::string& down,
                                   const std::string& up,
                                   const std::map<std::string, std::string>& metadata = {},
                                   const std::string& name = "a.safetensors") const {
    LoraTensors lora;
    lora.add(prefix + "blocks.0.attn.qkv_x" + down, {4, 6});
    lora.add(prefix + "blocks.0.attn.qkv_x" + up, {18, 4});
    lora.write(folder_ / name, metadata);
    return folder_ / name;
  }
  std::filesystem::path write_peft(const std::string& metadata) const {
    return write_pair("", ".lora_A.weight", ".lora_B.weight",
                      {{"lora_adapter_metadata", metadata}});
  }
  std::filesystem::path write_genmo(const std::string& kwargs) const {
    return write_pair("", ".lora_A", ".lora_B", {{"kwargs", kwargs}});
  }
  static LoraLayer only_layer(const std::filesystem::path& path) {
    const LoraFile file = LoraFile::open(path);
    EXPECT_EQ(file.layers().size(), 1U);
    return file.layers().front();
  }
  static std::string error_of(const std::filesystem::path& path) {
    return message_of<Error>([&] { LoraFile::open(path); });
  }

  TempFolder folder_;
};

TEST_F(LoraFiles, EverySpellingOfKeys) {
  const std::pair<const char*, const char*> endings[] = {
      {".lora_A", ".lora_B"},
      {".lora_A.weight", ".lora_B.weight"},
      {".lora_A.default.weight", ".lora_B.default.weight"},
      {".lora_down.weight", ".lora_up.weight"},
      {".lora_A.my-style_2.weight", ".lora_B.my-style_2.weight"},
      {".lora.down.weight", ".lora.up.weight"},
  };
  for (const char* prefix : {"", "transformer.", "base_model.model.", "diffusion_model.",
                             "base_model.model.transformer.", "model.diffusion_model."}) {
    for (const auto& [down, up] : endings) {
      const LoraLayer layer = only_layer(write_pair(prefix, down, up));
      EXPECT_EQ(layer.module, "blocks.0.attn.qkv_x") << prefix << down;
      EXPECT_EQ(layer.factors.front().right, std::string(prefix) + "blocks.0.attn.qkv_x" + down);
      EXPECT_EQ(layer.factors.front().left, std::string(prefix) + "blocks.0.attn.qkv_x" + up);
      EXPECT_EQ(layer.rank, 4);
    }
  }
}

TEST_F(LoraFiles, WithoutAnAlphaItIsTheRank) {
  const LoraLayer layer = only_layer(write_pair("", ".lora_A", ".lora_B"));
  EXPECT_FALSE(layer.has_alpha);
  EXPECT_EQ(layer.alpha, 4.0);
  EXPECT_EQ(layer.strength, 1.0);
}

TEST_F(LoraFiles, AnAlphaOfZeroIsWorthAWarning) {
  const auto warning = [](const std::filesystem::path& path) {
    return warn_of_zero_alphas(LoraFile::open(path));
  };
  EXPECT_EQ(warning(write_genmo("{}")), "");
  const auto path = write_genmo(R"({"qkv_proj_lora_alpha": 0})");
  EXPECT_EQ(warning(path), "LoRA '" + path.string() + "' changes nothing, because its alpha is 0");
}

TEST_F(LoraFiles, AlphaFromGenmosMetadata) {
  const LoraLayer layer = only_layer(
      write_genmo(R"({"qkv_proj_lora_rank": 4, "qkv_proj_lora_alpha": 10, "out_proj_lora_rank": 2,
                      "out_proj_lora_alpha": 3, "qkv_proj_lora_dropout": 0.1})"));
  EXPECT_TRUE(layer.has_alpha);
  EXPECT_EQ(layer.alpha, 10.0);
  EXPECT_EQ(layer.strength, 2.5);
  expect_contains(error_of(write_genmo(R"({"qkv_proj_lora_rank": 8})")),
                  "a.safetensors (kwargs): qkv_proj_lora_rank: wanted 4, the rank of "
                  "'blocks.0.attn.qkv_x', found 8");
  expect_contains(error_of(write_genmo(R"({"qkv_proj_lora_alpha": "10"})")),
                  "(kwargs): qkv_proj_lora_alpha: wanted a number");
  expect_contains(error_of(write_genmo("rank 4")),
                  "a.safetensors (kwargs): column 1: not valid JSON");
}

TEST_F(LoraFiles, AlphaFromPeftsMetadata) {
  EXPECT_EQ(only_layer(write_peft(R"({"transformer.r": 4, "transformer.lora_alpha": 6})")).strength,
            1.5);
  EXPECT_EQ(only_layer(write_peft(R"({"r": 4, "lora_alpha": 2})")).strength, 0.5);
  EXPECT_EQ(only_layer(write_peft(R"({"lora_alpha": 6, "use_rslora": true})")).strength, 3.0);
  EXPECT_EQ(only_layer(write_peft(R"({"lora_alpha": 6, "alpha_pattern": {"qkv_x": 8, "x": 1}})"))
                .strength,
            2.0);
  expect_contains(error_of(write_peft(R"({"alpha_pattern": {".*qkv": 8}})")),
                  "alpha_pattern: wanted names of layers, found '.*qkv'");
}

TEST_F(LoraFiles, PeftsPatternsMayHavePrefixes) {
  for (const char* prefix : {"", "transformer.", "base_model.model."}) {
    const std::string pattern = std::string(prefix) + "blocks.0.attn.qkv_x";
    EXPECT_EQ(
        only_layer(write_peft(R"({"lora_alpha": 2, "alpha_pattern": {")" + pattern + R"(": 8}})"))
            .strength,
        2.0);
  }
}

TEST_F(LoraFiles, PeftsRankAndKindMustBeTheFiles) {
  EXPECT_EQ(only_layer(write_peft(R"({"r": 16, "lora_alpha": 8, "rank_pattern": {"qkv_x": 4}})"))
                .strength,
            2.0);
  expect_contains(error_of(write_peft(R"({"r": 16, "lora_alpha": 8})")),
                  "r: wanted 4, the rank of 'blocks.0.attn.qkv_x', found 16");
  expect_contains(error_of(write_peft(R"({"r": 4, "rank_pattern": {"qkv_x": 8}})")),
                  "wanted 4, the rank of 'blocks.0.attn.qkv_x', found 8");
  expect_contains(error_of(write_peft(R"({"lora_alpha": 8, "use_dora": true})")),
                  "blocks.0.attn.qkv_x.lora_A.weight' in '");
  expect_contains(error_of(write_peft(R"({"lora_alpha": 8, "use_dora": true})")),
                  "has no matching lora_magnitude_vector");
  expect_contains(error_of(write_peft(R"({"peft_type": "OFT", "alpha": 8})")),
                  "peft_type: wanted LORA, LOHA or LOKR, found 'OFT'");
  expect_contains(error_of(write_peft(R"({"lora_alpha": 8, "use_qalora": true})")),
                  "use_qalora: a kind of LoRA that is not supported: wanted null or false, found "
                  "true");
  EXPECT_EQ(only_layer(write_peft(R"({"lora_alpha": 8, "kasa_config": null})")).strength, 2.0);
  expect_contains(error_of(write_peft(R"({"init_lora_weights": "pissa_niter_4"})")),
                  "init_lora_weights: wanted a LoRA for the model as it is, found 'pissa_niter_4'");
  EXPECT_EQ(
      only_layer(write_peft(R"({"lora_alpha": 8, "init_lora_weights": "gaussian"})")).strength,
      2.0);
}

TEST_F(LoraFiles, AlphaFromTheSettingsBesidePeftsFile) {
  folder_.write("adapter_config.json", R"({"peft_type": "LORA", "r": 4, "lora_alpha": 12})");
  const auto write = [this](const char* name) {
    return write_pair("base_model.model.", ".lora_A.weight", ".lora_B.weight", {}, name);
  };
  EXPECT_EQ(only_layer(write("adapter_model.safetensors")).strength, 3.0);
  EXPECT_EQ(only_layer(write("other.safetensors")).strength, 1.0);
}

TEST_F(LoraFiles, AlphaFromATensorGoesBeforeMetadata) {
  for (const Shape& shape : {Shape{}, Shape{1}}) {
    LoraTensors lora;
    lora.add("blocks.0.attn.qkv_x.lora_down.weight", {4, 6});
    lora.add("blocks.0.attn.qkv_x.lora_up.weight", {18, 4});
    lora.add("blocks.0.attn.qkv_x.alpha", shape, {2.0F});
    lora.write(folder_ / "a.safetensors", {{"kwargs", R"({"qkv_proj_lora_alpha": 8})"}});
    EXPECT_EQ(only_layer(folder_ / "a.safetensors").strength, 0.5);
  }
}

TEST_F(LoraFiles, AlphaIsANumberOfAnyType) {
  LoraTensors lora;
  lora.add("blocks.0.attn.qkv_x.lora_A", {4, 6});
  lora.add("blocks.0.attn.qkv_x.lora_B", {18, 4});
  const std::int32_t alpha = 8;
  lora.add("blocks.0.attn.qkv_x.alpha", DType::kI32, {}, std::as_bytes(std::span(&alpha, 1)));
  lora.write(folder_ / "a.safetensors");
  EXPECT_EQ(only_layer(folder_ / "a.safetensors").strength, 2.0);
}

TEST_F(LoraFiles, AlphaFromPlainMetadata) {
  const auto write = [this](const std::map<std::string, std::string>& metadata) {
    return write_pair("", ".lora_A.weight", ".lora_B.weight", metadata);
  };
  for (const char* key :
       {"transformer.lora_alpha", "lora_alpha", "ss_network_alpha", "network_alpha", "alpha"}) {
    EXPECT_EQ(only_layer(write({{key, "16"}})).strength, 4.0) << key;
  }
  EXPECT_EQ(only_layer(write({{"lora_alpha", "2.5"}, {"r", "4"}})).alpha, 2.5);
  EXPECT_EQ(only_layer(write({{"lora_alpha", "6"}, {"use_rslora", "True"}})).strength, 3.0);
  EXPECT_EQ(only_layer(write({{"lora_alpha", "6"}, {"use_rslora", "1"}})).strength, 3.0);
  EXPECT_EQ(only_layer(write({{"lora_alpha", "6"}, {"use_rslora", "False"}})).strength, 1.5);
  expect_contains(error_of(write({{"lora_alpha", "6"}, {"use_rslora", "yes"}})),
                  "use_rslora: wanted true or false, found 'yes'");
  EXPECT_EQ(only_layer(write({{"ss_network_alpha", "None"}})).strength, 1.0);
  expect_contains(error_of(write({{"lora_alpha", "8"}, {"r", "4.5"}})), "found 4.5");
  expect_contains(error_of(write({{"lora_alpha", "8"}, {"r", "1e30"}})), "found 1e+30");
  expect_contains(error_of(write({{"Alpha", "8"}})), "(metadata): Alpha: unknown key");
  expect_contains(
      error_of(write({{"lora_alpha", "16"}, {"r", "8"}})),
      "a.safetensors (metadata): wanted rank 4, that of 'blocks.0.attn.qkv_x', found 8");
  expect_contains(error_of(write({{"ss_network_alpha", "Dynamic"}})),
                  "(metadata): ss_network_alpha: wanted a number, found 'Dynamic'");
  expect_contains(error_of(write({{"lora_alpha", "nan"}})), "lora_alpha: wanted a number");
  EXPECT_EQ(only_layer(write({{"adapter_config", R"({"r": 4, "lora_alpha": 16})"}})).strength, 4.0);
  expect_contains(error_of(write({{"my_alpha", "16"}})), "(metadata): my_alpha: unknown key");
  expect_contains(error_of(write({{"lora_alpha", "16"}, {"alpha", "8"}})),
                  "lora_alpha and alpha contradict each other: 16 and 8");
}

TEST_F(LoraFiles, PlainMetadataIsNotNeededBesideAlphaTensors) {
  LoraTensors lora;
  lora.add("blocks.0.attn.qkv_x.lora_A", {4, 6});
  lora.add("blocks.0.attn.qkv_x.lora_B", {18, 4});
  lora.add("blocks.0.attn.qkv_x.alpha", {}, {2.0F});
  lora.write(folder_ / "a.safetensors", {{"ss_network_alpha", "Dynamic"}});
  EXPECT_EQ(only_layer(folder_ / "a.safetensors").strength, 0.5);
}

TEST_F(LoraFiles, EveryTensorMustBelongToAPair) {
  const auto error_with = [this](const std::string& name, const Shape& shape) {
    LoraTensors lora;
    lora.add(name, shape);
    lora.write(folder_ / "a.safetensors");
    return error_of(folder_ / "a.safetensors");
  };
  const std::string file = " in '" + (folder_ / "a.safetensors").string() + "'";
  EXPECT_EQ(error_with("blocks.0.attn.qkv_x.lora_A", {4, 6}),
            "tensor 'blocks.0.attn.qkv_x.lora_A'" + file + " has no matching lora_B (lora_up)");
  EXPECT_EQ(error_with("blocks.0.attn.qkv_x.lora_B", {6, 4}),
            "tensor 'blocks.0.attn.qkv_x.lora_B'" + file + " has no matching lora_A (lora_down)");
  EXPECT_EQ(error_with("blocks.0.attn.qkv_x.alpha", {}),
            "tensor 'blocks.0.attn.qkv_x.alpha'" + file + " has no matching lora_A (lora_down)");
  EXPECT_EQ(error_with("blocks.0.attn.qkv_x.lora_C.weight", {4, 6}),
            "tensor 'blocks.0.attn.qkv_x.lora_C.weight'" + file +
                " is no part of a LoRA, did you mean 'blocks.0.attn.qkv_x.lora_A.weight'?");
}

TEST_F(LoraFiles, OtherKindsAndOtherNetworksAreRefusedByName) {
  for (const auto& [name, kind] : std::map<std::string, std::string>{
           {"blocks.0.attn.qkv_x.lora_mid.weight", "LoCon (a Tucker decomposition)"},
           {"blocks.0.attn.qkv_x.hada_t1", "LoHa of a convolution (a Tucker decomposition)"},
           {"blocks.0.attn.qkv_x.lokr_t2", "LoKr of a convolution (a Tucker decomposition)"},
           {"blocks.0.attn.qkv_x.oft_blocks", "OFT"},
           {"blocks.0.attn.qkv_x.a1.weight", "GLoRA"},
           {"blocks.0.attn.qkv_x.on_input", "IA3"},
           {"blocks.0.attn.qkv_x.set_weight", "replacement of whole weights"},
           {"base_model.model.blocks.0.attn.proj_x.bias", "LoRA with biases of its base model"},
           {"lora_te_encoder_block_0_layer_0_SelfAttention_q.lora_down.weight",
            "LoRA of a text encoder"},
           {"lora_te1_encoder_block_0_layer_0_SelfAttention_q.alpha", "LoRA of a text encoder"},
           {"text_encoders.t5xxl.transformer.shared.lora_up.weight", "LoRA of a text encoder"},
           {"text_encoder.encoder.block.0.layer.0.SelfAttention.q.lora_A.weight",
            "LoRA of a text encoder"}}) {
    LoraTensors lora;
    lora.add(name, {4});
    lora.write(folder_ / "a.safetensors");
    const std::string message = error_of(folder_ / "a.safetensors");
    expect_contains(message, "tensor '" + name + "' in '");
    expect_contains(message, "belongs to a " + kind + ", which is not supported");
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

// The layer's tensors, each without another one that it needs.
TEST_F(LoraFiles, EveryPartNeedsItsPartner) {
  const auto error_with = [this](const std::vector<std::string>& endings) {
    LoraTensors lora;
    for (const std::string& ending : endings) lora.add("blocks.0.attn.qkv_x" + ending, {4, 4});
    lora.write(folder_ / "a.safetensors");
    return error_of(folder_ / "a.safetensors");
  };
  const auto expect_missing = [&](const std::vector<std::string>& endings, const std::string& found,
                                  const std::string& missing) {
    expect_contains(error_with(endings), "tensor 'blocks.0.attn.qkv_x" + found + "' in '");
    expect_contains(error_with(endings), "has no matching " + missing);
  };
  expect_missing({".lora_up.weight", ".alpha"}, ".lora_up.weight", "lora_A (lora_down)");
  expect_missing({".lora_B.bias"}, ".lora_B.bias", "lora_A (lora_down)");
  expect_missing({".dora_scale", ".alpha"}, ".alpha", "lora_A (lora_down)");
  expect_missing({".lora_magnitude_vector"}, ".lora_magnitude_vector", "lora_A (lora_down)");
  expect_missing({".hada_w1_a"}, ".hada_w1_a", "hada_w1_b");
  expect_missing({".hada_w1_a", ".hada_w1_b"}, ".hada_w1_a", "hada_w2_a");
  expect_missing({".hada_w1_a", ".hada_w1_b", ".hada_w2_b"}, ".hada_w2_b", "hada_w2_a");
  expect_missing({".lokr_w1"}, ".lokr_w1", "lokr_w2");
  expect_missing({".lokr_w1", ".lokr_w2_a"}, ".lokr_w2_a", "lokr_w2_b");
  expect_missing({".lokr_w2"}, ".lokr_w2", "lokr_w1");
  expect_contains(error_with({".lokr_w1", ".lokr_w2", ".lokr_w2_a", ".lokr_w2_b"}),
                  "are the same part of a LoKr");
  expect_contains(error_with({".lora_A", ".lora_B", ".lora_magnitude_vector", ".dora_scale"}),
                  "are the same part of a DoRA");
  expect_contains(error_with({".lora_A", ".lora_B", ".lokr_w1", ".lokr_w2"}),
                  "belong to a LoRA and a LoKr of one layer: wanted one kind");
  expect_contains(error_with({".lora_A", ".lora_B", ".diff"}),
                  "belong to a LoRA and a difference of one layer: wanted one kind");
}

TEST_F(LoraFiles, KindsSpellingsAndRanks) {
  struct Case {
    std::vector<std::pair<std::string, Shape>> tensors;
    std::string_view kind, spelling;
    std::int64_t rank;
  };
  const std::string dotted = "blocks.0.attn.qkv_x";
  const std::string flat = "lora_unet_blocks_0_attn_qkv_x";
  const Case cases[] = {
      {{{dotted + ".lora_A", {4, 6}}, {dotted + ".lora_B", {18, 4}}}, "LoRA", "genmo", 4},
      {{{dotted + ".lora_A.weight", {4, 6}}, {dotted + ".lora_B.weight", {18, 4}}},
       "LoRA",
       "PEFT",
       4},
      {{{dotted + ".lora_A.weight", {4, 6}},
        {dotted + ".lora_B.weight", {18, 4}},
        {dotted + ".lora_magnitude_vector", {18}}},
       "DoRA",
       "PEFT",
       4},
      {{{"lycoris_blocks_0_attn_qkv_x.lokr_w1", {3, 2}},
        {"lycoris_blocks_0_attn_qkv_x.lokr_w2", {6, 3}}},
       "LoKr",
       "LyCORIS",
       0},
      {{{"base_model.model." + dotted + ".lora_A.style.weight", {4, 6}},
        {"base_model.model." + dotted + ".lora_B.style.weight", {18, 4}},
        {"base_model.model." + dotted + ".lora_magnitude_vector.style.weight", {18}}},
       "DoRA",
       "PEFT",
       4},
      {{{"transformer.transformer_blocks.0.attn1.to_q.lora_A.weight", {4, 6}},
        {"transformer.transformer_blocks.0.attn1.to_q.lora_B.weight", {6, 4}}},
       "LoRA",
       "diffusers",
       4},
      {{{"diffusion_model." + dotted + ".lora_down.weight", {4, 6}},
        {"diffusion_model." + dotted + ".lora_up.weight", {18, 4}}},
       "LoRA",
       "ComfyUI",
       4},
      {{{flat + ".lora_down.weight", {4, 6, 1, 1}},
        {flat + ".lora_up.weight", {18, 4, 1, 1}},
        {flat + ".dora_scale", {1, 6, 1, 1}}},
       "DoRA",
       "kohya",
       4},
      {{{flat + ".hada_w1_a", {18, 2}},
        {flat + ".hada_w1_b", {2, 6}},
        {flat + ".hada_w2_a", {18, 2}},
        {flat + ".hada_w2_b", {2, 6}}},
       "LoHa",
       "kohya",
       2},
      {{{flat + ".lokr_w1", {3, 2}}, {flat + ".lokr_w2", {6, 3}}}, "LoKr", "kohya", 0},
      {{{flat + ".lokr_w1", {3, 2}},
        {flat + ".lokr_w2_a", {6, 1}},
        {flat + ".lokr_w2_b", {1, 3}},
        {flat + ".dora_scale", {18, 1}}},
       "LoKr with DoRA's norms",
       "kohya",
       1},
      {{{"diffusion_model." + dotted + ".diff", {18, 6}}}, "difference", "ComfyUI", 0},
      {{{"diffusion_model.t5_yproj.diff_b", {18}}}, "difference of biases", "ComfyUI", 0},
  };
  for (const Case& which : cases) {
    LoraTensors lora;
    for (const auto& [name, shape] : which.tensors) lora.add(name, shape);
    lora.write(folder_ / "a.safetensors");
    const LoraLayer layer = only_layer(folder_ / "a.safetensors");
    EXPECT_EQ(layer.kind_name(), which.kind) << which.tensors.front().first;
    EXPECT_EQ(lora_spelling_name(layer.spelling), which.spelling) << which.tensors.front().first;
    EXPECT_EQ(layer.rank, which.rank) << which.tensors.front().first;
    EXPECT_EQ(layer.tensor_names().size(), which.tensors.size());
  }
}

TEST_F(LoraFiles, RanksOfOneLayerMustBeEqual) {
  LoraTensors lora;
  lora.add("blocks.0.attn.qkv_x.hada_w1_a", {18, 2});
  lora.add("blocks.0.attn.qkv_x.hada_w1_b", {2, 6});
  lora.add("blocks.0.attn.qkv_x.hada_w2_a", {18, 3});
  lora.add("blocks.0.attn.qkv_x.hada_w2_b", {3, 6});
  lora.write(folder_ / "a.safetensors");
  expect_contains(error_of(folder_ / "a.safetensors"),
                  "wanted rank 2, that of 'blocks.0.attn.qkv_x.hada_w1_b', found 3");
}

// LyCORIS ignores alpha where both factors are whole; peft does not.
TEST_F(LoraFiles, WholeLokrsAreScaledByPeftsSettingsOnly) {
  const auto strength_with = [this](const std::map<std::string, std::string>& metadata) {
    LoraTensors lora;
    lora.add("blocks.0.attn.qkv_x.lokr_w1", {3, 2});
    lora.add("blocks.0.attn.qkv_x.lokr_w2", {6, 3});
    lora.add("blocks.0.attn.qkv_x.alpha", {}, {1e10F});
    lora.write(folder_ / "a.safetensors", metadata);
    return only_layer(folder_ / "a.safetensors").strength;
  };
  EXPECT_EQ(strength_with({}), 1.0);
  EXPECT_EQ(strength_with({{"ss_network_dim", "10000"}, {"ss_network_alpha", "1"}}), 1.0);
  const std::string settings = R"({"peft_type": "LOKR", "r": 8, "alpha": 4)";
  EXPECT_EQ(strength_with({{"adapter", settings + "}"}}), 0.5);
  EXPECT_EQ(strength_with({{"adapter", settings + R"(, "rank_pattern": {"qkv_x": 16}})"}}), 0.25);
  expect_contains(message_of<Error>([&] {
                    strength_with({{"adapter", R"({"peft_type": "LOKR", "r": 0, "alpha": 4})"}});
                  }),
                  "wanted a positive rank of 'blocks.0.attn.qkv_x', found 0");
}

TEST_F(LoraFiles, AlphaMustBeFinite) {
  for (const float alpha : {std::nanf(""), INFINITY}) {
    LoraTensors lora;
    lora.add("blocks.0.attn.qkv_x.lora_A", {4, 6});
    lora.add("blocks.0.attn.qkv_x.lora_B", {18, 4});
    lora.add("blocks.0.attn.qkv_x.alpha", {}, {alpha});
    lora.write(folder_ / "a.safetensors");
    expect_contains(error_of(folder_ / "a.safetensors"),
                    "a.safetensors': wanted a finite alpha of 'blocks.0.attn.qkv_x', found ");
  }
}

TEST_F(LoraFiles, PairsMustFitTogether) {
  const auto error_with = [this](const Shape& down, const Shape& up) {
    LoraTensors lora;
    lora.add("blocks.0.attn.qkv_x.lora_A", down);
    lora.add("blocks.0.attn.qkv_x.lora_B", up);
    lora.write(folder_ / "a.safetensors");
    return error_of(folder_ / "a.safetensors");
  };
  expect_contains(error_with({4, 6}, {18, 5}),
                  "wanted 4 columns for the rows of 'blocks.0.attn.qkv_x.lora_A' [4, 6], found "
                  "[18, 5]");
  expect_contains(error_with({0, 6}, {18, 0}), "wanted a rank of at least 1, found shape [0, 6]");
  expect_contains(error_with({4, 6, 1}, {18, 4}), "wanted 2 dimensions, found [4, 6, 1]");
  LoraTensors twice;
  twice.add("blocks.0.mod_x.lora_A", {4, 6});
  twice.add("transformer.blocks.0.mod_x.lora_A.weight", {4, 6});
  twice.write(folder_ / "b.safetensors");
  expect_contains(error_of(folder_ / "b.safetensors"), "are the same part of a LoRA");
}

TEST_F(LoraFiles, AreToldFromNetworks) {
  EXPECT_TRUE(holds_lora(*Checkpoint::open(write_pair("", ".lora_A", ".lora_B"))));
  const std::filesystem::path goldens = MOCHI_GOLDEN_DIR;
  EXPECT_FALSE(holds_lora(*Checkpoint::open(goldens / "formats/dit_f32.safetensors")));
  EXPECT_FALSE(holds_lora(*Checkpoint::open(goldens / "formats/t5_sharded")));
  LoraTensors lokr;
  lokr.add("blocks.0.attn.qkv_x.lokr_w1", {4, 6});
  lokr.write(folder_ / "lokr.safetensors");
  EXPECT_TRUE(holds_lora(*Checkpoint::open(folder_ / "lokr.safetensors")));
  EXPECT_EQ(error_of(folder_.path()),
            "LoRA '" + folder_.path().string() + "': wanted a .safetensors file, found a folder");
  expect_contains(error_of(goldens / "lora_kinds/peft_dora"),
                  "found a folder, did you mean '" +
                      (goldens / "lora_kinds/peft_dora/adapter_model.safetensors").string() + "'?");
  expect_contains(error_of(folder_ / "none"), "no such file");
}

}  // namespace
}  // namespace mochi
