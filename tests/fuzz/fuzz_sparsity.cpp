// Any text as a chipmunk-config.yml. An accepted configuration is written, read again without
// warnings, compared, and used for the static columns of a small video.
#include "fuzz_support.h"
#include "mochi/sparsity.h"
#include "sparsity/schedule.h"
#include "sparsity/static_columns.h"

namespace mochi {
namespace {

void use_config(const SparsityConfig& config) {
  const std::string yaml = to_yaml(config);
  for (const std::string& written : {yaml, to_json(config)}) {
    const LoadedSparsity again = parse_sparsity_config(written, "again");
    require(to_yaml(again.config) == yaml);
    require(again.warnings.empty() && again.ignored_keys.empty());
  }
  sparsity_warnings(config, 64, 8, 512);
  step_kind(config, 7, 5);
  find_static_columns(config, {5, 7, 9}, 3);
}

}  // namespace

int fuzz(std::span<const std::byte> bytes) {
  const std::string text(as_text(bytes));
  expect_result_or_error([&] { use_config(parse_sparsity_config(text, "line 1").config); });
  return 0;
}

}  // namespace mochi
