/* An external TFLite delegate that behaves as a file tells it, to test what happens when an accelerator fails.
 *
 * The option "mode_file", or else the environment's FICKLE_MODE_FILE, names a file that holds one word:
 *   ok              claims the whole graph and answers (every output byte is 7)
 *   refuse          tflite_plugin_create_delegate reports a reason and returns NULL
 *   crash-prepare   aborts while it is applied to the graph
 *   hang-prepare    never returns from being applied
 *   error-invoke    an inference returns an error
 *   crash-invoke    an inference aborts
 *   hang-invoke     an inference never returns
 * The file is read at each inference, so a test changes the mind of a running delegate.
 *
 * The declarations below restate the part of TFLite's public C ABI that is needed, in its order; the ABI only ever
 * appends.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

typedef enum { kOk = 0, kError = 1 } Status;

typedef struct {
  int size;
  int data[];
} IntArray;

struct Context;
struct Delegate;

typedef struct {
  int type;
  void *data;
  IntArray *dims;
  struct {
    float scale;
    int32_t zero_point;
  } params;
  int allocation_type;
  size_t bytes;
  const void *allocation;
  const char *name;
  struct Delegate *delegate;
  int buffer_handle;
  bool data_is_stale;
  bool is_variable;
  struct {
    int type;
    void *params;
  } quantization;
  void *sparsity;
  const IntArray *dims_signature;
} Tensor;

typedef struct {
  IntArray *inputs;
  IntArray *outputs;
} Node; /* more follows */

typedef struct {
  void *(*init)(struct Context *, const char *, size_t);
  void (*free)(struct Context *, void *);
  Status (*prepare)(struct Context *, Node *);
  Status (*invoke)(struct Context *, Node *);
  const char *(*profiling_string)(const struct Context *, const Node *);
  int32_t builtin_code;
  const char *custom_name;
  int version;
  void *registration_external;
  void *(*async_kernel)(struct Context *, Node *);
  uint64_t inplace_operator;
} Registration;

typedef struct Context {
  size_t tensors_size;
  Status (*GetExecutionPlan)(struct Context *, IntArray **);
  Tensor *tensors;
  void *impl_;
  Status (*ResizeTensor)(struct Context *, void *, IntArray *);
  void (*ReportError)(struct Context *, const char *, ...);
  Status (*AddTensors)(struct Context *, int, int *);
  Status (*GetNodeAndRegistration)(struct Context *, int, Node **, Registration **);
  Status (*ReplaceNodeSubsetsWithDelegateKernels)(struct Context *, Registration, const IntArray *, struct Delegate *);
} Context; /* more follows */

typedef struct Delegate {
  void *data_;
  Status (*Prepare)(Context *, struct Delegate *);
  Status (*CopyFromBufferHandle)(Context *, struct Delegate *, int, void *);
  Status (*CopyToBufferHandle)(Context *, struct Delegate *, int, void *);
  void (*FreeBufferHandle)(Context *, struct Delegate *, int *);
  int64_t flags;
  void *opaque_delegate_builder;
} Delegate;

static char mode_file[4096];

static bool mode_is(const char *word) {
  char mode[64] = "ok";
  FILE *file = fopen(mode_file, "r");
  if (file) {
    if (fscanf(file, "%63s", mode) != 1) strcpy(mode, "ok");
    fclose(file);
  }
  return strcmp(mode, word) == 0;
}

static void misbehave(const char *crash, const char *hang) {
  if (mode_is(crash)) {
    fprintf(stderr, "fickle delegate: the device went away\n");
    abort();
  }
  while (mode_is(hang)) sleep(3600);
}

static Status kernel_invoke(Context *context, Node *node) {
  misbehave("crash-invoke", "hang-invoke");
  if (mode_is("error-invoke")) {
    context->ReportError(context, "fickle delegate: a transfer failed");
    return kError;
  }
  for (int i = 0; i < node->outputs->size; i++) {
    Tensor *tensor = &context->tensors[node->outputs->data[i]];
    memset(tensor->data, 7, tensor->bytes);
  }
  return kOk;
}

static Status prepare(Context *context, Delegate *delegate) {
  misbehave("crash-prepare", "hang-prepare");
  IntArray *plan;
  if (context->GetExecutionPlan(context, &plan) != kOk) return kError;
  size_t bytes = sizeof(IntArray) + sizeof(int) * (size_t)plan->size;
  IntArray *nodes = malloc(bytes);
  memcpy(nodes, plan, bytes);
  Registration kernel = {.invoke = kernel_invoke, .custom_name = "FickleKernel", .version = 1};
  Status status = context->ReplaceNodeSubsetsWithDelegateKernels(context, kernel, nodes, delegate);
  free(nodes);
  return status;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  const char *named = getenv("FICKLE_MODE_FILE");
  if (named) snprintf(mode_file, sizeof mode_file, "%s", named);
  for (size_t i = 0; i < count; i++)
    if (strcmp(keys[i], "mode_file") == 0) snprintf(mode_file, sizeof mode_file, "%s", values[i]);
  if (mode_is("refuse")) {
    report("no device answers on the bus");
    return NULL;
  }
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->Prepare = prepare;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
