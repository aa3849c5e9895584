#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "base/error.h"
#include "base/temp_folder.h"
#include "base/utf8.h"
#include "io/json.h"

namespace mochi {
namespace {

const std::filesystem::path kFolder = std::filesystem::path(MOCHI_GOLDEN_DIR) / "tokenizer";

TEST(Tokenizer, GivesTheIdsOfTheLibraryItself) {
  const Tokenizer tokenizer(kFolder / "spiece.model");
  const Json golden = read_json(kFolder / "cases.json");
  const auto max_tokens = golden["max_tokens"].get<std::int64_t>();
  int num_compared = 0;
  for (const Json& item : golden["cases"]) {
    const auto text = item["text"].get<std::string>();
    if (text.empty()) continue;
    const auto want = item["ids"].get<std::vector<std::int32_t>>();
    EXPECT_EQ(tokenizer.encode(text, max_tokens, "prompt"), want) << text.substr(0, 60);
    ++num_compared;
  }
  EXPECT_GT(num_compared, 15);
}

TEST(Tokenizer, AnEmptyTextHasNoTokens) {
  EXPECT_TRUE(Tokenizer(kFolder / "spiece.model").encode("", 256, "prompt").empty());
}

TEST(Tokenizer, KeepsTheEndTokenWhenItCuts) {
  const Tokenizer tokenizer(kFolder / "spiece.model");
  const auto whole = tokenizer.encode("a small red ball moves", 256, "prompt");
  ASSERT_GT(whole.size(), 4U);
  const auto cut = tokenizer.encode("a small red ball moves", 4, "prompt");
  EXPECT_EQ(cut, (std::vector<std::int32_t>{whole[0], whole[1], whole[2], whole.back()}));
}

TEST(Tokenizer, FindsWhereATextIsCut) {
  const Tokenizer tokenizer(kFolder / "spiece.model");
  const std::string text = "a small  red ball moves";
  const auto num_tokens = std::ssize(tokenizer.encode(text, 256, "prompt"));
  EXPECT_FALSE(tokenizer.find_cut(text, num_tokens));
  EXPECT_FALSE(tokenizer.find_cut("", 2));
  int num_compared = 0;
  for (std::int64_t max_tokens = 2; max_tokens < num_tokens; ++max_tokens) {
    const auto cut = tokenizer.find_cut(text, max_tokens);
    ASSERT_TRUE(cut);
    EXPECT_EQ(cut->num_tokens, num_tokens);
    // The text before the cut has the tokens that are read; a space at the end has none.
    const std::string read = text.substr(0, cut->first_dropped);
    if (read.ends_with(' ')) continue;
    ++num_compared;
    EXPECT_EQ(tokenizer.encode(read, 256, "prompt"), tokenizer.encode(text, max_tokens, "prompt"));
  }
  EXPECT_GT(num_compared, 3);
}

TEST(Tokenizer, RefusesInvalidUtf8) {
  const Tokenizer tokenizer(kFolder / "spiece.model");
  const auto message =
      message_of<Error>([&] { tokenizer.encode("ab\xff", 256, "negative_prompt"); });
  EXPECT_EQ(message, "negative_prompt: not valid UTF-8 at byte 2 (0xff)");
}

TEST(Tokenizer, RefusesMissingAndDamagedModels) {
  const TempFolder folder;
  expect_contains(message_of<Error>([&] { Tokenizer(folder / "spiece.model"); }), "spiece.model");
  const auto garbage = folder.write("garbage", "this is no model");
  expect_contains(message_of<Error>([&] { Tokenizer{garbage}; }),
                  "is a text file (\"this is no model\"), not a complete SentencePiece model");
  const std::string whole = read_text(kFolder / "spiece.model");
  const auto half = folder.write("half", whole.substr(0, whole.size() / 2));
  expect_contains(message_of<Error>([&] { Tokenizer{half}; }),
                  "not a complete SentencePiece model");
  expect_contains(message_of<Error>([&] { Tokenizer{folder.write("empty", "")}; }),
                  "not a complete SentencePiece model");
}

// Random texts of pieces, marks, spaces and letters of several scripts.
std::string random_text(std::minstd_rand& random) {
  constexpr std::array kParts{" ",     "  ",    "red",  "ball",    "left",   "s",      "A",
                              "naïve", "ﬁ",     "Ｆ",   "\n",      "\t",     "日本",   "д",
                              "🔴",    "▁",     "</s>", "e\u0301", "7",      "…",      ".",
                              ",",     "<pad>", "x",    "the",     "\u00a0", "\u200b", "\u0001"};
  std::string text;
  for (auto num_parts = random() % 40; num_parts > 0; --num_parts) {
    text += kParts[random() % kParts.size()];
  }
  return text;
}

TEST(TokenizerJson, GivesTheIdsOfSpieceModel) {
  const Tokenizer wanted(kFolder / "spiece.model");
  const Tokenizer found(kFolder / "tokenizer.json");
  EXPECT_EQ(found.vocab_size(), wanted.vocab_size());
  const Json golden = read_json(kFolder / "cases.json");
  for (const Json& item : golden["cases"]) {
    const auto text = item["text"].get<std::string>();
    EXPECT_EQ(found.encode(text, 256, "prompt"), wanted.encode(text, 256, "prompt")) << text;
  }
  std::minstd_rand random(1);
  for (int i = 0; i < 3000; ++i) {
    const std::string text = random_text(random);
    ASSERT_EQ(found.encode(text, 256, "prompt"), wanted.encode(text, 256, "prompt")) << text;
  }
}

TEST(TokenizerJson, RefusesOtherTokenizers) {
  const TempFolder folder;
  const auto error_of = [&folder](const std::string& content) {
    const auto path = folder.write("tokenizer.json", content);
    const std::string message = message_of<Error>([&] { Tokenizer{path}; });
    expect_contains(message, "tokenizer.json");
    return message;
  };
  const auto with_model = [](const std::string& model, const std::string& more = "") {
    return R"({"model": {)" + model + "}" + more + "}";
  };
  const std::string pieces = R"("type": "Unigram", "unk_id": 1, "vocab": [["</s>", 0], ["?", -1]])";
  expect_contains(error_of("{}"), "wanted a tokenizer.json, which has a 'model'");
  expect_contains(error_of(with_model(R"("type": "BPE")")),
                  "model.type: wanted T5's model, 'Unigram', found 'BPE'");
  expect_contains(error_of(with_model(R"("type": "Unigram", "unk_id": 0)")), "model.vocab: wanted");
  expect_contains(error_of(with_model(R"("type": "Unigram", "unk_id": 0, "vocab": [["a"]])")),
                  "model.vocab: wanted a piece and its score as item 0");
  expect_contains(error_of(with_model(R"("type": "Unigram", "unk_id": 2, "vocab": [["a", 0]])")),
                  "model.unk_id: wanted the number of a piece, 0 to 0, found 2");
  expect_contains(error_of(with_model(pieces, R"(, "normalizer": {"type": "NFD"})")),
                  "normalizer.type: 'NFD' is not a normaliser of T5");
  expect_contains(error_of(with_model(pieces, R"(, "pre_tokenizer": {"type": "ByteLevel"})")),
                  "pre_tokenizer.type: 'ByteLevel' is not a pre-tokenizer of T5");
  expect_contains(
      error_of(with_model(
          pieces, R"(, "normalizer": {"type": "Precompiled", "precompiled_charsmap": "*"})")),
      "normalizer.precompiled_charsmap: wanted base64");
  expect_contains(error_of(with_model(pieces)), "has no end token '</s>'");
  expect_contains(error_of("version https://git-lfs"), "Git LFS pointer");
}

TEST(Utf8, FindsTheFirstInvalidByte) {
  const auto index_of = [](std::string_view text) {
    const auto found = find_invalid_utf8(text);
    return found ? static_cast<int>(*found) : -1;
  };
  EXPECT_EQ(index_of(""), -1);
  EXPECT_EQ(index_of("naïve 日本 🔴"), -1);
  EXPECT_EQ(index_of(std::string_view("a\0b", 3)), -1);
  EXPECT_EQ(index_of("\xf4\x8f\xbf\xbf"), -1);     // U+10FFFF
  EXPECT_EQ(index_of("ab\x80"), 2);                // nothing to continue
  EXPECT_EQ(index_of("a\xc3"), 1);                 // cut
  EXPECT_EQ(index_of("\xe2\x82"), 0);              // cut
  EXPECT_EQ(index_of("x\xe2\x28\xa1"), 1);         // not continued
  EXPECT_EQ(index_of("\xc0\xaf"), 0);              // overlong
  EXPECT_EQ(index_of("\xe0\x80\xaf"), 0);          // overlong
  EXPECT_EQ(index_of("ok \xed\xa0\x80"), 3);       // surrogate
  EXPECT_EQ(index_of("\xf4\x90\x80\x80"), 0);      // above U+10FFFF
  EXPECT_EQ(index_of("\xf8\x88\x80\x80\x80"), 0);  // five bytes
}

}  // namespace
}  // namespace mochi
