// Facts about a machine's GPU that are known before anything runs on it, and whether it is
// suitable.
#pragma once

#include <string>

namespace mochi {

struct CudaFacts {
  // The newest CUDA that the driver supports, as 1000·major + 10·minor; 0: no driver.
  int driver_version = 0;
  int runtime_version = 0;  // the CUDA that this program was built with
  bool has_new_enough_driver = true;
  int num_gpus = 0;
  std::string gpu_name;  // name and compute capability of the first GPU
  int compute_major = 0, compute_minor = 0;
};

// Returns one line that says why the GPU cannot be used (wanted and found), or an empty string if
// it can.
std::string find_problem(const CudaFacts& facts);

}  // namespace mochi
