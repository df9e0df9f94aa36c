/* A TFLite delegate that takes no operation: the model runs on the interpreter's own kernels, in the process that an
 * accelerator has. So an accelerator can be killed or hung here while every inference is a real one.
 *
 * The declaration below restates the part of TFLite's public C ABI that is needed; the ABI only ever appends.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

typedef enum { kOk = 0 } Status;

typedef struct Delegate {
  void *data_;
  Status (*Prepare)(void *, struct Delegate *);
  Status (*CopyFromBufferHandle)(void *, struct Delegate *, int, void *);
  Status (*CopyToBufferHandle)(void *, struct Delegate *, int, void *);
  void (*FreeBufferHandle)(void *, struct Delegate *, int *);
  int64_t flags;
  void *opaque_delegate_builder;
} Delegate;

static Status prepare(void *context, Delegate *delegate) {
  (void)context;
  (void)delegate;
  return kOk;
}

Delegate *tflite_plugin_create_delegate(char **keys, char **values, size_t count, void (*report)(const char *)) {
  (void)keys;
  (void)values;
  (void)count;
  (void)report;
  Delegate *delegate = calloc(1, sizeof *delegate);
  delegate->Prepare = prepare;
  return delegate;
}

void tflite_plugin_destroy_delegate(Delegate *delegate) { free(delegate); }
