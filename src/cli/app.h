// The commands and flags of `mochi`, declared once: for parsing, for help, and for the manual and
// the shells' completions, which are made from them.
#pragma once

#include <memory>
#include <string>

#include "cli/analyze.h"
#include "cli/bench.h"
#include "cli/compare.h"
#include "cli/convert.h"
#include "cli/download.h"
#include "cli/encode.h"
#include "cli/generate_options.h"
#include "cli/inspect.h"
#include "cli/serve.h"
#include "cli/tune_options.h"
#include "flags/cli11_fwd.h"

namespace mochi::cli {

// The values that parsing fills in.
struct Commands {
  GenerateOptions generate;
  GenerateOptions decode;
  EncodeOptions encode;
  ConvertCommandOptions convert;
  InspectOptions inspect;
  CompareOptions compare;
  DownloadOptions download;
  ServeOptions serve;
  GenerateOptions analyze;
  TuneOptions tune;
  BenchOptions bench;
  std::string shell;                // for `completion`
  std::string manual_form = "man";  // for `manual`
};

// `commands` must outlive the app.
std::unique_ptr<CLI::App> make_app(Commands& commands);

}  // namespace mochi::cli
