#include "text/llama_cpp_layout.h"

#include <gtest/gtest.h>

#include <string>
#include <utility>
#include <vector>

#include "base/error.h"
#include "base/temp_folder.h"
#include "support/gguf_bytes.h"
#include "text/t5_weights.h"

namespace mochi {
namespace {

TEST(LlamaCppLayout, NamesEveryTensorOfT5) {
  const std::vector<std::pair<std::string, std::string>> names{
      {"token_embd.weight", "shared.weight"},
      {"enc.output_norm.weight", "encoder.final_layer_norm.weight"},
      {"enc.blk.0.attn_rel_b.weight",
       "encoder.block.0.layer.0.SelfAttention.relative_attention_bias.weight"},
      {"enc.blk.23.attn_q.weight", "encoder.block.23.layer.0.SelfAttention.q.weight"},
      {"enc.blk.23.attn_k.weight", "encoder.block.23.layer.0.SelfAttention.k.weight"},
      {"enc.blk.23.attn_v.weight", "encoder.block.23.layer.0.SelfAttention.v.weight"},
      {"enc.blk.23.attn_o.weight", "encoder.block.23.layer.0.SelfAttention.o.weight"},
      {"enc.blk.1.attn_norm.weight", "encoder.block.1.layer.0.layer_norm.weight"},
      {"enc.blk.1.ffn_norm.weight", "encoder.block.1.layer.1.layer_norm.weight"},
      {"enc.blk.1.ffn_gate.weight", "encoder.block.1.layer.1.DenseReluDense.wi_0.weight"},
      {"enc.blk.1.ffn_up.weight", "encoder.block.1.layer.1.DenseReluDense.wi_1.weight"},
      {"enc.blk.1.ffn_down.weight", "encoder.block.1.layer.1.DenseReluDense.wo.weight"},
  };
  for (const auto& [llama_cpp, transformers] : names) {
    EXPECT_EQ(from_llama_cpp_t5_name(llama_cpp), transformers);
    EXPECT_EQ(to_llama_cpp_t5_name(transformers), llama_cpp);
  }
  for (const char* other : {"dec.blk.0.attn_q.weight", "enc.blk.0", "enc.blk.0.other", "x", ""}) {
    EXPECT_EQ(from_llama_cpp_t5_name(other), other);
  }
}

TEST(LlamaCppLayout, ReadsTensorsUnderTheirNewNames) {
  const TempFolder folder;
  const auto path = folder.write(
      "t5.gguf", make_gguf({.tensors = {gguf_tensor("enc.blk.0.attn_q.weight", {2, 3}, 0, 0),
                                        gguf_tensor("dec.blk.0.attn_q.weight", {1}, 0, 32)},
                            .num_data_bytes = 36}));
  const auto stored = open_weights(path);
  EXPECT_TRUE(has_llama_cpp_t5_keys(*stored));
  const auto source = from_llama_cpp_t5(stored);
  const std::string name = t5_layer_prefix(0) + "0.SelfAttention.q.weight";
  EXPECT_EQ(source->info(name).shape, (Shape{3, 2}));
  EXPECT_EQ(source->entry(name).bytes.size(), 24U);
  EXPECT_EQ(source->names(), (std::vector<std::string>{"dec.blk.0.attn_q.weight", name}));
  EXPECT_FALSE(has_llama_cpp_t5_keys(*source));
  EXPECT_THROW(source->info("enc.blk.0.attn_q.weight"), Error);
}

TEST(LlamaCppLayout, RefusesAFileWithBothNames) {
  const TempFolder folder;
  const auto path =
      folder.write("t5.gguf", make_gguf({.tensors = {gguf_tensor("token_embd.weight", {1}, 0, 0),
                                                     gguf_tensor("shared.weight", {1}, 0, 32)},
                                         .num_data_bytes = 36}));
  expect_contains(message_of<Error>([&] { from_llama_cpp_t5(open_weights(path)); }),
                  "are both 'shared.weight'");
}

}  // namespace
}  // namespace mochi
