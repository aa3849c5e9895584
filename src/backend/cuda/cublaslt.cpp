#include "backend/cuda/cublaslt.h"

#include <cublasLt.h>
#include <dlfcn.h>

#include <compare>
#include <map>
#include <string>

#include "backend/cuda/device_scope.h"
#include "base/error.h"

namespace mochi::cuda {
namespace {

constexpr std::int64_t kWorkspaceBytes = 32 << 20;  // NVIDIA's recommendation for Hopper
// Alignment of every row that the fast kernels require.
constexpr std::uint32_t kAlignmentBytes = 16;

// The key of a plan.
struct Product {
  std::int64_t rows, n, k;
  DType in_dtype, out_dtype;

  auto operator<=>(const Product&) const = default;
};

}  // namespace

// The functions of the library that are called, and a handle of it.
struct CublasLt::Library {
  explicit Library(int index) : device_index(index) {
    std::string problems;
    for (const char* name : {"libcublasLt.so.13", "libcublasLt.so.12"}) {
      object = dlopen(name, RTLD_NOW | RTLD_LOCAL);
      if (object != nullptr) break;
      problems += std::string(problems.empty() ? "" : "; ") + dlerror();
    }
    if (object == nullptr) {
      fail(
          "GPU: cuBLASLt, NVIDIA's matmul library, was not found: {}. It is in the "
          "CUDA toolkit, and in the Python package nvidia-cublas (nvidia-cublas-cu12 for CUDA 12); "
          "put its folder into LD_LIBRARY_PATH",
          problems);
    }
    load(create, "cublasLtCreate");
    load(destroy, "cublasLtDestroy");
    load(get_status_string, "cublasLtGetStatusString");
    load(matmul, "cublasLtMatmul");
    load(choose, "cublasLtMatmulAlgoGetHeuristic");
    load(create_desc, "cublasLtMatmulDescCreate");
    load(destroy_desc, "cublasLtMatmulDescDestroy");
    load(set_desc, "cublasLtMatmulDescSetAttribute");
    load(create_layout, "cublasLtMatrixLayoutCreate");
    load(destroy_layout, "cublasLtMatrixLayoutDestroy");
    load(create_preference, "cublasLtMatmulPreferenceCreate");
    load(destroy_preference, "cublasLtMatmulPreferenceDestroy");
    load(set_preference, "cublasLtMatmulPreferenceSetAttribute");
    const DeviceScope scope(device_index);
    check(create(&handle), "starting it");
  }
  // Never unloaded, because the library does not support that reliably.
  ~Library() {
    const DeviceScope scope(device_index, std::nothrow);
    destroy(handle);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  void check(cublasStatus_t status, const char* what) const {
    if (status != CUBLAS_STATUS_SUCCESS) {
      fail("GPU: cuBLASLt: {}: {}", what, get_status_string(status));
    }
  }

  int device_index;  // the GPU that the handle belongs to
  void* object = nullptr;
  cublasLtHandle_t handle = nullptr;
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetStatusString) get_status_string = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) choose = nullptr;
  decltype(&cublasLtMatmulDescCreate) create_desc = nullptr;
  decltype(&cublasLtMatmulDescDestroy) destroy_desc = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) set_desc = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) create_layout = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) destroy_layout = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) create_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) destroy_preference = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) set_preference = nullptr;

 private:
  template <typename Function>
  void load(Function*& function, const char* name) {
    function = reinterpret_cast<Function*>(dlsym(object, name));
    if (function == nullptr) fail("GPU: cuBLASLt has no function {}: it is too old", name);
  }
};

// The computation of one size of product. cuBLASLt is column-major: row-major out [rows, n] is its
// n × rows matrix, the product of weightᵀ (k × n, to be transposed) and x (k × rows).
struct CublasLt::Plan {
  Plan(const Library& lib, const Product& product) : library(lib) {
    const auto [rows, n, k, in_dtype, out_dtype] = product;
    const auto create_layout = [&](cublasLtMatrixLayout_t& layout, DType dtype, std::int64_t height,
                                   std::int64_t width) {
      const cudaDataType_t type = dtype == DType::kBF16 ? CUDA_R_16BF : CUDA_R_32F;
      library.check(library.create_layout(&layout, type, static_cast<std::uint64_t>(height),
                                          static_cast<std::uint64_t>(width), height),
                    "describing a matrix");
    };
    library.check(library.create_desc(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
                  "describing a matmul");
    const cublasOperation_t transposed = CUBLAS_OP_T;
    library.check(
        library.set_desc(desc, CUBLASLT_MATMUL_DESC_TRANSA, &transposed, sizeof(transposed)),
        "describing a matmul");
    create_layout(weight, in_dtype, k, n);
    create_layout(x, in_dtype, k, rows);
    create_layout(out, out_dtype, n, rows);
  }
  ~Plan() {
    for (cublasLtMatrixLayout_t layout : {weight, x, out}) library.destroy_layout(layout);
    library.destroy_desc(desc);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  // Takes the heuristic's first algorithm and never measures: the fastest one varies from run to
  // run, and with it the order of the sums. Returns false if there is no algorithm.
  bool choose() {
    cublasLtMatmulPreference_t preference = nullptr;
    library.check(library.create_preference(&preference), "creating a cuBLASLt preference");
    const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, auto value) {
      library.check(library.set_preference(preference, attribute, &value, sizeof(value)),
                    "creating a cuBLASLt preference");
    };
    set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, static_cast<std::uint64_t>(kWorkspaceBytes));
    // Partial sums of a split are added in fp32, in a fixed order.
    set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK,
        static_cast<std::uint32_t>(CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE));
    for (const auto attribute :
         {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
          CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES}) {
      set(attribute, kAlignmentBytes);
    }
    cublasLtMatmulHeuristicResult_t result{};
    int num_found = 0;
    const cublasStatus_t status = library.choose(library.handle, desc, weight, x, out, out,
                                                 preference, 1, &result, &num_found);
    library.destroy_preference(preference);
    algorithm = result.algo;
    return status == CUBLAS_STATUS_SUCCESS && num_found > 0;
  }

  const Library& library;
  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t weight = nullptr, x = nullptr, out = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
  bool is_usable = false;
};

class CublasLt::Plans {
 public:
  const Plan& get(const Library& library, const Product& product) {
    std::unique_ptr<Plan>& plan = plans_[product];
    if (!plan) {
      plan = std::make_unique<Plan>(library, product);
      plan->is_usable = plan->choose();
    }
    return *plan;
  }

 private:
  std::map<Product, std::unique_ptr<Plan>> plans_;
};

CublasLt::CublasLt(Allocator& allocator)
    : library_(std::make_unique<Library>(allocator.device().index)),
      plans_(std::make_unique<Plans>()),
      workspace_(DType::kU8, Shape{kWorkspaceBytes}, allocator) {}

CublasLt::~CublasLt() = default;

bool CublasLt::multiply(const TensorView& x, const TensorView& weight, const TensorView& out,
                        bool accumulate, cudaStream_t stream) {
  for (const TensorView& matrix : {x, weight, out}) {
    const auto address = reinterpret_cast<std::uintptr_t>(matrix.bytes());
    const std::size_t row_bytes =
        static_cast<std::size_t>(matrix.dim(1)) * dtype_bytes(matrix.dtype());
    if (address % kAlignmentBytes != 0 || row_bytes % kAlignmentBytes != 0) return false;
  }
  const Plan& plan =
      plans_->get(*library_, {x.dim(0), weight.dim(0), x.dim(1), x.dtype(), out.dtype()});
  if (!plan.is_usable) return false;
  const float alpha = 1.0F;
  const float beta = accumulate ? 1.0F : 0.0F;
  library_->check(
      library_->matmul(library_->handle, plan.desc, &alpha, weight.bytes(), plan.weight, x.bytes(),
                       plan.x, &beta, out.bytes(), plan.out, out.bytes(), plan.out, &plan.algorithm,
                       workspace_.view().bytes(), workspace_.view().size_bytes(), stream),
      "multiplying");
  return true;
}

}  // namespace mochi::cuda
