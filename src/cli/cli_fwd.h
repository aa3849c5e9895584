// What headers name of CLI11, whose own header takes seconds to compile.
#pragma once

namespace CLI {
class App;
class Option;
}  // namespace CLI
