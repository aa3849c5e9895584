// What is known of a machine's GPU before anything runs there, and whether that will do.
#pragma once

#include <string>

namespace mochi {

struct CudaFacts {
  int driver_version = 0;   // newest CUDA that the driver knows, as 1000·major + 10·minor; 0: none
  int runtime_version = 0;  // the CUDA that this program was built with
  bool has_new_enough_driver = true;
  int num_gpus = 0;
  std::string gpu_name;  // of the first GPU, as are the next two
  int compute_major = 0, compute_minor = 0;
};

// Why the GPU cannot be used, in one line: what was wanted and what was found. Empty: it can.
std::string find_problem(const CudaFacts& facts);

}  // namespace mochi
