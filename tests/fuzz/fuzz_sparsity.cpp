// Reads any text as a chipmunk-config.yml. An accepted configuration is written, read again without
// warnings, compared, and used for the static columns of a small video.
#include <cstdlib>

#include "fuzz_support.h"
#include "mochi/sparsity.h"
#include "sparsity/schedule.h"
#include "sparsity/static_columns.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  mochi::expect_result_or_error([&] {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const mochi::SparsityConfig config = mochi::parse_sparsity_config(text, "line 1").config;
    const std::string yaml = mochi::to_yaml(config);
    for (const std::string& written : {yaml, mochi::to_json(config)}) {
      const mochi::LoadedSparsity again = mochi::parse_sparsity_config(written, "again");
      if (mochi::to_yaml(again.config) != yaml) std::abort();
      if (!again.warnings.empty() || !again.ignored_keys.empty()) std::abort();
    }
    mochi::sparsity_warnings(config, 64, 8, 512);
    mochi::step_kind(config, 7, 5);
    mochi::find_static_columns(config, {5, 7, 9}, 3);
  });
  return 0;
}
