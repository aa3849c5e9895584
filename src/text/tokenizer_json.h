// tokenizer.json of the Hugging Face library "tokenizers", as a SentencePiece model.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>

namespace mochi {

// Returns a serialised SentencePiece model that gives the ids of a T5 tokenizer.json. The extra ids
// of T5 ("<extra_id_0>") are left out, as they are from spiece.model. Throws Error naming file and
// key if the tokenizer is of another kind.
std::string make_sentencepiece_model(std::string_view content, const std::filesystem::path& path);

}  // namespace mochi
