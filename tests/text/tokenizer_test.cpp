#include "text/tokenizer.h"

#include <gtest/gtest.h>

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
