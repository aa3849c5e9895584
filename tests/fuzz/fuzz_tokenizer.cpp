// Any text as a tokenizer.json. What is accepted gives a SentencePiece model, which is not loaded:
// its library reads files of the model in the same way.
#include "fuzz_support.h"
#include "text/tokenizer_json.h"

namespace mochi {

int fuzz(std::span<const std::byte> bytes) {
  std::string model;
  if (expect_result_or_error(
          [&] { model = make_sentencepiece_model(as_text(bytes), "tokenizer.json"); })) {
    require(!model.empty());
  }
  return 0;
}

}  // namespace mochi
