// A device that is only counted: torch's PrivateUse1 backend, whose tensors lie in this process's own memory and in a
// ledger of their own. An operator on them runs the CPU's kernel on aliases of the same bytes; in a hollow run, on
// large tensors, only the meta kernel, which knows shapes and computes nothing. Large blocks are mapped and never
// touched then, so that the tensors of a 70B model cost no memory. What is taken and given back is kept as a list of
// changes, on the device, in pinned and in pageable host memory alike; whoever reads it makes sums and peaks of it.
#include <torch/extension.h>

#include <ATen/EmptyTensor.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/detail/PrivateUse1HooksInterface.h>
#include <ATen/native/Resize.h>
#include <ATen/ops/cat.h>
#include <ATen/ops/copy_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/fill_native.h>
#include <ATen/ops/histc.h>
#include <ATen/ops/zero_native.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/DeviceGuardImplInterface.h>
#include <sys/mman.h>

#include <array>
#include <cstdlib>
#include <mutex>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

namespace counted {

constexpr auto kCounted = c10::DeviceType::PrivateUse1;
const c10::Device kDevice(kCounted, 0);
const c10::Device kHost(c10::DeviceType::CPU);

// --- The ledger ------------------------------------------------------------------------------------------------------

enum Place : int64_t { kOnDevice = 0, kPinned = 1, kPageable = 2, kUncounted = 3 };

constexpr size_t kMapped = 1 << 16;       // bytes from which a block is mapped, and touched page by page
constexpr int64_t kNamed = 1 << 20;       // bytes from which a change has the name of who made it
constexpr size_t kDeviceBlock = 512;      // CUDA's caching allocator hands out multiples of it

using Change = std::array<int64_t, 4>;  // place, block, bytes taken (+) or given back (-), index of a name

class Ledger {
 public:
  void take(void* data, size_t size, Place place) {
    const auto name = name_of(static_cast<int64_t>(size));
    std::lock_guard<std::mutex> lock(mutex_);
    blocks_[data] = {size, 0, kUncounted, 0};
    enter(blocks_[data], place, name);
  }

  // Counts a block elsewhere from now on; false for one that is not known here.
  bool move(void* data, Place place) {
    const auto name = name_of(kNamed);
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = blocks_.find(data);
    if (found == blocks_.end()) return false;
    leave(found->second);
    enter(found->second, place, name);
    return true;
  }

  size_t give_back(void* data) {
    std::lock_guard<std::mutex> lock(mutex_);
    const auto found = blocks_.find(data);
    TORCH_CHECK(found != blocks_.end(), "counted: a block that nobody took is given back");
    const size_t size = found->second.size;
    leave(found->second);
    blocks_.erase(found);
    return size;
  }

  bool is_pinned(const void* data) {
    std::lock_guard<std::mutex> lock(mutex_);
    for (const auto& [begin, block] : blocks_)
      if (block.place == kPinned && data >= begin && data < static_cast<const char*>(begin) + block.size) return true;
    return false;
  }

  int64_t held_bytes(Place place) { return held_[place]; }
  const std::vector<Change>& changes() const { return changes_; }
  const std::vector<std::string>& names() const { return names_; }
  void set_namer(py::object namer) { namer_ = namer.is_none() ? nullptr : new py::object(std::move(namer)); }

 private:
  struct Block {
    size_t size;
    int64_t number;
    Place place;
    int64_t name;
  };

  static int64_t counted_bytes(const Block& block) {
    if (block.place != kOnDevice) return static_cast<int64_t>(block.size);
    return static_cast<int64_t>((block.size + kDeviceBlock - 1) / kDeviceBlock * kDeviceBlock);
  }

  void enter(Block& block, Place place, int64_t name) {
    block.place = place;
    block.number = next_number_++;
    block.name = name;
    if (place == kUncounted) return;
    held_[place] += counted_bytes(block);
    changes_.push_back({place, block.number, counted_bytes(block), name});
  }

  void leave(const Block& block) {
    if (block.place == kUncounted) return;
    held_[block.place] -= counted_bytes(block);
    changes_.push_back({block.place, block.number, -counted_bytes(block), block.name});
  }

  int64_t name_of(int64_t size);

  std::mutex mutex_;
  std::unordered_map<void*, Block> blocks_;
  std::vector<Change> changes_;
  std::vector<std::string> names_{""};
  std::unordered_map<std::string, int64_t> known_names_{{"", 0}};
  std::array<int64_t, 3> held_{};
  int64_t next_number_ = 0;
  py::object* namer_ = nullptr;
};

Ledger& ledger() {
  static auto* made = new Ledger;  // never destroyed: tensors outlive what is static
  return *made;
}

thread_local const char* current_operator = "";
thread_local int kernel_depth = 0;  // above 0: what is allocated on the host belongs to a kernel of the device

// The operator that runs and, where somebody gave a namer, the line of Python that called it.
int64_t Ledger::name_of(int64_t size) {
  if (!namer_ || size < kNamed) return 0;
  std::string name = current_operator;
  {
    py::gil_scoped_acquire gil;
    name += "|" + (*namer_)().cast<std::string>();
  }
  std::lock_guard<std::mutex> lock(mutex_);
  const auto [found, is_new] = known_names_.try_emplace(name, static_cast<int64_t>(names_.size()));
  if (is_new) names_.push_back(name);
  return found->second;
}

// --- Allocators ------------------------------------------------------------------------------------------------------

void* take_memory(size_t size) {
  void* data = nullptr;
  if (size < kMapped) {
    TORCH_CHECK(posix_memalign(&data, 64, size) == 0, "counted: no memory for ", size, " bytes");
    return memset(data, 0, size);  // what a hollow run leaves there is read now and then: a loss, a norm
  }
  data = mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  TORCH_CHECK(data != MAP_FAILED, "counted: no addresses for ", size, " bytes");
  return data;
}

void free_memory(void* data) {
  if (!data) return;
  const size_t size = ledger().give_back(data);
  if (size < kMapped)
    free(data);
  else
    munmap(data, size);
}

class Allocator final : public c10::Allocator {
 public:
  Allocator(Place place, c10::Device device) : place_(place), device_(device) {}

  c10::DataPtr allocate(size_t size) override {
    if (size == 0) return {nullptr, nullptr, &free_memory, device_};
    void* data = take_memory(size);
    ledger().take(data, size, place_ == kPageable && kernel_depth > 0 ? kUncounted : place_);
    return {data, data, &free_memory, device_};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &free_memory; }
  void copy_data(void* to, const void* from, std::size_t size) const override { default_copy_data(to, from, size); }

 private:
  Place place_;
  c10::Device device_;
};

Allocator device_allocator(kOnDevice, kDevice);
Allocator pinned_allocator(kPinned, kHost);
Allocator host_allocator(kPageable, kHost);

// --- What torch asks of a device -------------------------------------------------------------------------------------

struct Guard final : public c10::impl::DeviceGuardImplInterface {
  c10::DeviceType type() const override { return kCounted; }
  c10::Device exchangeDevice(c10::Device) const override { return kDevice; }
  c10::Device getDevice() const override { return kDevice; }
  void setDevice(c10::Device) const override {}
  void uncheckedSetDevice(c10::Device) const noexcept override {}
  c10::Stream getStream(c10::Device) const override { return c10::Stream(c10::Stream::DEFAULT, kDevice); }
  c10::Stream getDefaultStream(c10::Device device) const override { return getStream(device); }
  c10::Stream getNewStream(c10::Device device, int) const override { return getStream(device); }
  c10::Stream getStreamFromGlobalPool(c10::Device device, bool) const override { return getStream(device); }
  c10::Stream exchangeStream(c10::Stream stream) const override { return stream; }
  c10::DeviceIndex deviceCount() const noexcept override { return 1; }
  void record(void**, const c10::Stream&, const c10::DeviceIndex, const c10::EventFlag) const override {}
  void block(void*, const c10::Stream&) const override {}
  bool queryEvent(void*) const override { return true; }
  bool queryStream(const c10::Stream&) const override { return true; }
  void synchronizeEvent(void*) const override {}
  void synchronizeStream(const c10::Stream&) const override {}
  void synchronizeDevice(const c10::DeviceIndex) const override {}
};
C10_REGISTER_GUARD_IMPL(PrivateUse1, Guard)

struct Hooks final : public at::PrivateUse1HooksInterface {
  bool isBuilt() const override { return true; }
  bool isAvailable() const override { return true; }
  bool hasPrimaryContext(c10::DeviceIndex) const override { return true; }
  c10::DeviceIndex deviceCount() const override { return 1; }
  c10::DeviceIndex getCurrentDevice() const override { return 0; }
  void setCurrentDevice(c10::DeviceIndex) const override {}
  c10::DeviceIndex exchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::DeviceIndex maybeExchangeDevice(c10::DeviceIndex) const override { return 0; }
  c10::Device getDeviceFromPtr(void*) const override { return kDevice; }
  c10::Allocator* getPinnedMemoryAllocator() const override { return &pinned_allocator; }
  bool isPinnedPtr(const void* data) const override { return ledger().is_pinned(data); }
  const at::Generator& getDefaultGenerator(c10::DeviceIndex) const override {
    return at::globalContext().defaultGenerator(kHost);
  }
  at::Generator getNewGenerator(c10::DeviceIndex) const override { return getDefaultGenerator(0).clone(); }
  void resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const override;
};

// --- Operators -------------------------------------------------------------------------------------------------------

bool is_hollow = false;
int64_t hollow_from = 0;  // elements from which an operator computes nothing

bool is_hollow_size(int64_t element_count) { return is_hollow && element_count >= hollow_from; }
bool is_counted(const at::Tensor& tensor) { return tensor.device().type() == kCounted; }

void Hooks::resizePrivateUse1Bytes(const c10::Storage& storage, size_t size) const {
  auto fresh = device_allocator.allocate(size);
  const size_t kept = std::min(size, storage.nbytes());
  if (kept && !is_hollow_size(static_cast<int64_t>(kept))) memcpy(fresh.get(), storage.data(), kept);
  storage.unsafeGetStorageImpl()->set_data_ptr_noswap(std::move(fresh));
  storage.unsafeGetStorageImpl()->set_nbytes(size);
}

// A tensor over `storage` that lies in it as `like` lies in its own.
at::Tensor tensor_over(c10::Storage storage, c10::DispatchKey key, const at::Tensor& like) {
  auto made = at::detail::make_tensor<c10::TensorImpl>(std::move(storage), c10::DispatchKeySet(key), like.dtype());
  made.unsafeGetTensorImpl()->set_sizes_and_strides(like.sizes(), like.strides(), like.storage_offset());
  if (like.unsafeGetTensorImpl()->is_wrapped_number()) made.unsafeGetTensorImpl()->set_wrapped_number(true);
  return made;
}

void drop_storage(void* held) { delete static_cast<c10::Storage*>(held); }

// The same bytes as a storage of another device, which keeps the first one alive.
c10::Storage alias(const c10::Storage& storage, c10::Device device, c10::Allocator* allocator) {
  c10::DataPtr data(storage.mutable_data(), new c10::Storage(storage), &drop_storage, device);
  return c10::Storage(c10::Storage::use_byte_size_t(), storage.nbytes(), std::move(data), allocator, true);
}

at::Tensor as_host(const at::Tensor& tensor) {
  return tensor_over(alias(tensor.storage(), kHost, &host_allocator), c10::DispatchKey::CPU, tensor);
}

at::Tensor as_meta(const at::Tensor& tensor) {
  auto* allocator = c10::GetAllocator(c10::DeviceType::Meta);
  c10::Storage storage(c10::Storage::use_byte_size_t(), tensor.storage().nbytes(),
                       c10::DataPtr(nullptr, c10::Device(c10::DeviceType::Meta)), allocator, true);
  return tensor_over(std::move(storage), c10::DispatchKey::Meta, tensor);
}

// What a CPU kernel has just made, as a tensor of the device: counted there from here on.
at::Tensor adopt(const at::Tensor& made) {
  if (made.storage().nbytes()) ledger().move(made.storage().mutable_data(), kOnDevice);
  return tensor_over(alias(made.storage(), kDevice, &device_allocator), c10::DispatchKey::PrivateUse1, made);
}

at::Tensor untouched_like(const at::Tensor& shape) {
  const auto size = at::detail::computeStorageNbytes(shape.sizes(), shape.strides(), shape.dtype().itemsize(),
                                                     shape.storage_offset());
  c10::Storage storage(c10::Storage::use_byte_size_t(), size, device_allocator.allocate(size), &device_allocator, true);
  return tensor_over(std::move(storage), c10::DispatchKey::PrivateUse1, shape);
}

template <class Visit>
void visit_tensors(c10::IValue& value, const Visit& visit) {
  if (value.isTensor() && value.toTensor().defined()) {
    value = visit(value.toTensor());
  } else if (value.isTensorList()) {
    c10::List<at::Tensor> visited;
    for (const at::Tensor& tensor : value.toTensorVector()) visited.push_back(tensor.defined() ? visit(tensor) : tensor);
    value = visited;
  } else if (value.isOptionalTensorList()) {
    c10::List<std::optional<at::Tensor>> visited;
    for (const std::optional<at::Tensor>& tensor : value.toOptionalTensorVector())
      visited.push_back(tensor && tensor->defined() ? std::optional<at::Tensor>(visit(*tensor)) : tensor);
    value = visited;
  }
}

// Operators whose result's shape or whose answer hangs on values.
bool reads_values(const std::string& name) {
  static const std::array<const char*, 6> readers{"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select",
                                                  "aten::equal",               "aten::bincount", "aten::_unique2"};
  return std::find(readers.begin(), readers.end(), name) != readers.end();
}

// One operator on tensors of the device, by the kernels of the CPU or of the meta device.
class Call {
 public:
  Call(const c10::OperatorHandle& op, torch::jit::Stack& stack)
      : op_(op), stack_(stack), begin_(stack.size() - op.schema().arguments().size()),
        given_(stack.begin() + begin_, stack.end()) {}

  void run() {
    int64_t largest = 0;
    for (size_t i = begin_; i < stack_.size(); ++i)
      visit_tensors(stack_[i], [&](const at::Tensor& tensor) {
        if (is_counted(tensor)) largest = std::max(largest, tensor.numel());
        return tensor;
      });
    is_hollow_ = is_hollow_size(largest) && !reads_values(op_.schema().name());
    if (is_hollow_ && !redispatch_to_meta()) is_hollow_ = false;
    if (!is_hollow_) redispatch(c10::DispatchKey::CPU);
    write_back();
    for (size_t i = stack_.size() - op_.schema().returns().size(); i < stack_.size(); ++i)
      visit_tensors(stack_[i], [&](const at::Tensor& tensor) { return returned(tensor); });
  }

 private:
  bool redispatch_to_meta() {
    try {
      redispatch(c10::DispatchKey::Meta);
      return true;
    } catch (const c10::NotImplementedError&) {  // no such kernel: the CPU's runs for real
      stack_.resize(begin_);
      stack_.insert(stack_.end(), given_.begin(), given_.end());
      return false;
    }
  }

  void redispatch(c10::DispatchKey key) {
    const bool is_meta = key == c10::DispatchKey::Meta;
    const c10::Device device = is_meta ? c10::Device(c10::DeviceType::Meta) : kHost;
    originals_.clear();
    stand_ins_.clear();
    for (size_t i = begin_; i < stack_.size(); ++i) {
      if (stack_[i].isDevice()) stack_[i] = device;
      visit_tensors(stack_[i], [&](const at::Tensor& tensor) {
        const bool is_of_host = !is_counted(tensor) && (!is_meta || tensor.dim() == 0);  // a kernel takes it as it is
        originals_.push_back(tensor);
        stand_ins_.push_back(is_of_host ? tensor : is_meta ? as_meta(tensor) : as_host(tensor));
        return stand_ins_.back();
      });
    }
    struct Depth {
      Depth() { ++kernel_depth; }
      ~Depth() { --kernel_depth; }
    } depth;
    op_.redispatchBoxed(c10::DispatchKeySet(key), &stack_);
  }

  // Arguments that the kernel has resized, such as an empty `out=`.
  void write_back() {
    for (size_t i = 0; i < originals_.size(); ++i) {
      const at::Tensor &original = originals_[i], &stand_in = stand_ins_[i];
      if (!is_counted(original) || original.sizes() == stand_in.sizes()) continue;
      const bool is_moved = stand_in.storage().nbytes() > original.storage().nbytes();
      const auto fresh = !is_moved     ? tensor_over(original.storage(), c10::DispatchKey::PrivateUse1, stand_in)
                         : is_hollow_ ? untouched_like(stand_in)
                                      : adopt(stand_in);
      auto* impl = original.unsafeGetTensorImpl();
      impl->set_storage_keep_dtype(fresh.storage());
      impl->set_sizes_and_strides(fresh.sizes(), fresh.strides(), fresh.storage_offset());
    }
  }

  // A result as the caller sees it: his own tensor where the kernel wrote in place, a view of it, or a fresh one.
  at::Tensor returned(const at::Tensor& result) {
    for (size_t i = 0; i < stand_ins_.size(); ++i)
      if (result.is_same(stand_ins_[i])) return originals_[i];
    for (size_t i = 0; i < stand_ins_.size(); ++i)
      if (result.storage().unsafeGetStorageImpl() == stand_ins_[i].storage().unsafeGetStorageImpl())
        return is_counted(originals_[i]) ? tensor_over(originals_[i].storage(), c10::DispatchKey::PrivateUse1, result)
                                         : result;
    return is_hollow_ ? untouched_like(result) : adopt(result);
  }

  const c10::OperatorHandle& op_;
  torch::jit::Stack& stack_;
  const size_t begin_;
  const std::vector<c10::IValue> given_;
  std::vector<at::Tensor> originals_, stand_ins_;
  bool is_hollow_ = false;
};

void run_boxed(const c10::OperatorHandle& op, torch::jit::Stack* stack) {
  const char* const outer = current_operator;
  current_operator = op.schema().name().c_str();
  struct Restore {
    const char* outer;
    ~Restore() { current_operator = outer; }
  } restore{outer};
  Call(op, *stack).run();
}

// --- What has no tensor of the device among its arguments, or is more than a kernel ----------------------------------

at::Tensor empty(c10::SymIntArrayRef size, std::optional<at::ScalarType> dtype, std::optional<at::Layout>,
                 std::optional<at::Device>, std::optional<bool>, std::optional<at::MemoryFormat> format) {
  return at::detail::empty_generic(C10_AS_INTARRAYREF_SLOW(size), &device_allocator,
                                   c10::DispatchKeySet(c10::DispatchKey::PrivateUse1), c10::dtype_or_default(dtype),
                                   format);
}

at::Tensor empty_strided(c10::SymIntArrayRef size, c10::SymIntArrayRef stride, std::optional<at::ScalarType> dtype,
                         std::optional<at::Layout>, std::optional<at::Device>, std::optional<bool>) {
  return at::detail::empty_strided_generic(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
                                           &device_allocator, c10::DispatchKeySet(c10::DispatchKey::PrivateUse1),
                                           c10::dtype_or_default(dtype));
}

at::Tensor& set_storage(at::Tensor& self, at::Storage source, c10::SymInt offset, c10::SymIntArrayRef size,
                        c10::SymIntArrayRef stride) {
  auto* impl = self.unsafeGetTensorImpl();
  impl->set_storage_keep_dtype(std::move(source));
  impl->set_sizes_and_strides(C10_AS_INTARRAYREF_SLOW(size), C10_AS_INTARRAYREF_SLOW(stride),
                              offset.guard_int(__FILE__, __LINE__));
  return self;
}

at::Tensor& set_whole_storage(at::Tensor& self, at::Storage source) {
  const int64_t count = static_cast<int64_t>(source.nbytes() / self.dtype().itemsize());
  return set_storage(self, std::move(source), 0, {c10::SymInt(count)}, {c10::SymInt(1)});
}

// A GPU's histogram takes integers, the CPU's does not; experts count their tokens so.
at::Tensor histc(const at::Tensor& self, int64_t bins, const at::Scalar& min, const at::Scalar& max) {
  const auto counts = at::histc(self.cpu().to(at::kFloat), bins, min, max);
  return counts.to(self.scalar_type()).to(self.device());
}

void record_stream(at::Tensor&, at::Stream) {}

// `parameter.data = tensor` may change the device, as it may between a CPU and a GPU.
bool may_change_device(const at::Tensor&, const at::Tensor&) { return true; }

TORCH_LIBRARY_IMPL(_, PrivateUse1, library) { library.fallback(torch::CppFunction::makeFromBoxedFunction<&run_boxed>()); }

TORCH_LIBRARY_IMPL(aten, PrivateUse1, library) {
  library.impl("empty.memory_format", &empty);
  library.impl("empty_strided", &empty_strided);
  library.impl("set_.source_Storage_storage_offset", &set_storage);
  library.impl("set_.source_Storage", &set_whole_storage);
  library.impl("histc", &histc);
  library.impl("record_stream", &record_stream);
  library.impl("_has_compatible_shallow_copy_type", &may_change_device);
}

// What is one kernel on the CPU is one here, as it is on a GPU, and not the several operators that torch makes of it for
// a backend without a kernel of its own: silu_backward alone would take six times its result.
void register_kernels() {
  static auto* library = new torch::Library(torch::Library::IMPL, "aten", c10::DispatchKey::PrivateUse1, __FILE__,
                                            __LINE__);
  auto& dispatcher = c10::Dispatcher::singleton();
  for (const c10::OperatorName& name : dispatcher.getAllOpNames()) {
    const auto op = dispatcher.findOp(name);
    if (name.getNamespace() != "aten" || !op || !op->hasKernelForDispatchKey(c10::DispatchKey::CPU) ||
        op->hasKernelForDispatchKey(c10::DispatchKey::PrivateUse1))
      continue;
    const auto full_name = toString(name);
    library->impl(full_name.c_str(), torch::CppFunction::makeFromBoxedFunction<&run_boxed>());
  }
}

// --- A hollow run leaves the large tensors of the host untouched, too ------------------------------------------------

at::Tensor& host_copy_(at::Tensor& self, const at::Tensor& source, bool non_blocking) {
  return is_hollow_size(self.numel()) ? self : at::native::copy_(self, source, non_blocking);
}
at::Tensor& host_zero_(at::Tensor& self) { return is_hollow_size(self.numel()) ? self : at::native::zero_(self); }
at::Tensor& host_fill_(at::Tensor& self, const at::Scalar& value) {
  return is_hollow_size(self.numel()) ? self : at::native::fill_(self, value);
}
at::Tensor& host_mul_(at::Tensor& self, const at::Tensor& other) {
  return is_hollow_size(self.numel()) ? self : at::mul_out(self, self, other);
}
at::Tensor& host_add_(at::Tensor& self, const at::Tensor& other, const at::Scalar& alpha) {
  return is_hollow_size(self.numel()) ? self : at::add_out(self, self, other, alpha);
}
at::Tensor host_cat(const at::ITensorListRef& tensors, int64_t dim) {
  int64_t element_count = 0;
  std::vector<at::Tensor> parts, shapes;
  for (const at::Tensor& tensor : tensors) {
    element_count += tensor.numel();
    parts.push_back(tensor);
    shapes.push_back(as_meta(tensor));
  }
  const auto shape = at::cat(shapes, dim);
  auto joined = at::empty(shape.sizes(), shape.options().device(kHost));
  return is_hollow_size(element_count) ? joined : at::cat_out(joined, parts, dim);
}

// Only a process that counts has this library loaded.
TORCH_LIBRARY_IMPL(aten, CPU, library) {
  library.impl("copy_", &host_copy_);
  library.impl("zero_", &host_zero_);
  library.impl("fill_.Scalar", &host_fill_);
  library.impl("mul_.Tensor", &host_mul_);
  library.impl("add_.Tensor", &host_add_);
  library.impl("cat", &host_cat);
}

}  // namespace counted

PYBIND11_MODULE(TORCH_EXTENSION_NAME, module) {
  using namespace counted;
  static Hooks hooks;
  at::RegisterPrivateUse1HooksInterface(&hooks);
  register_kernels();
  c10::SetAllocator(kCounted, &device_allocator);
  c10::SetCPUAllocator(&host_allocator, /*priority=*/1);
  module.def("held_bytes", [](int64_t place) { return ledger().held_bytes(static_cast<Place>(place)); });
  module.def("change_count", [] { return ledger().changes().size(); });
  module.def("changes", [] { return ledger().changes(); });
  module.def("names", [] { return ledger().names(); });
  module.def("set_namer", [](py::object namer) { ledger().set_namer(std::move(namer)); });
  module.def("set_hollow", [](int64_t from) {
    is_hollow = true;
    hollow_from = from;
  });
}
