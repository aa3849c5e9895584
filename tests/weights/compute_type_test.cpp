// Which matrices are quantised for 8-bit products.
#include "weights/compute_type.h"

#include <gtest/gtest.h>

namespace mochi {
namespace {

TEST(ComputeType, NamesAreThoseOfFlagsAndFiles) {
  for (const ComputeType type : kComputeTypes) {
    EXPECT_EQ(parse_compute_type(name_of(type)), type);
  }
  EXPECT_FALSE(parse_compute_type("int4"));
  EXPECT_FALSE(parse_compute_type(""));
}

TEST(ComputeType, LayersAreFoundByTheirNames) {
  const auto place = [](const char* name) -> std::string {
    const auto found = find_layer(name);
    if (!found) return "none";
    return std::to_string(found->block) + " " + std::string(name_of(found->layers));
  };
  EXPECT_EQ(place("blocks.0.attn.qkv_x.weight"), "0 attention");
  EXPECT_EQ(place("blocks.47.attn.proj_y.weight"), "47 attention");
  EXPECT_EQ(place("blocks.7.mlp_x.w1.weight"), "7 ffn");
  EXPECT_EQ(place("blocks.7.mlp_y.w2.weight"), "7 ffn");
  for (const char* name :
       {"blocks.7.mod_x.weight", "blocks.7.attn.proj_x.bias", "blocks.7.attn.q_norm_x.weight",
        "blocks.x.mlp_x.w1.weight", "blocks.99999999999.mlp_x.w1.weight", "final_layer.mod.weight",
        "t5_yproj.weight", "blocks.", ""}) {
    EXPECT_EQ(place(name), "none") << name;
  }
}

TEST(ComputeType, TheLastOverrideCounts) {
  const ComputePlan plan{
      .type = ComputeType::kInt8,
      .overrides = {{.first_block = 0, .last_block = 1},
                    {.layers = LayerGroup::kAttention, .type = ComputeType::kFp8},
                    {.first_block = 3, .last_block = 3}}};
  const auto type = [&](const char* name) {
    return quantised_type(plan, name).value_or(DType::kBF16);
  };
  EXPECT_EQ(type("blocks.0.mlp_x.w1.weight"), DType::kBF16);
  EXPECT_EQ(type("blocks.1.attn.qkv_x.weight"), DType::kF8E4M3);
  EXPECT_EQ(type("blocks.2.mlp_y.w1.weight"), DType::kI8);
  EXPECT_EQ(type("blocks.3.attn.qkv_x.weight"), DType::kBF16);
  EXPECT_EQ(type("blocks.2.mod_x.weight"), DType::kBF16);
  EXPECT_FALSE(quantised_type({}, "blocks.2.mlp_y.w1.weight"));
}

}  // namespace
}  // namespace mochi
