// What Swift needs of MPI. Constants are macros with casts, which Swift cannot import: each is an inline function here.
// Handles are pointers in one library and numbers in another: each is a struct. What a call answers comes back beside
// its return value, so that only calls that carry messages take pointers.
#pragma once
#include <mpi.h>

// A handle names something of MPI's: Swift never looks behind it, and MPI answers a wrong one with an error.
#define CMPI_SAFE __attribute__((swift_attr("safe")))

typedef struct CMPI_SAFE {
  MPI_Comm raw;
} cmpi_comm;
typedef struct CMPI_SAFE {
  MPI_Datatype raw;
} cmpi_type;
typedef struct CMPI_SAFE {
  MPI_Op raw;
} cmpi_op;
// An operation under way.
typedef struct CMPI_SAFE {
  MPI_Request raw;
} cmpi_request;

static inline cmpi_comm cmpi_world(void) { return (cmpi_comm){MPI_COMM_WORLD}; }
static inline cmpi_comm cmpi_null_comm(void) { return (cmpi_comm){MPI_COMM_NULL}; }
static inline cmpi_type cmpi_byte(void) { return (cmpi_type){MPI_BYTE}; }
static inline cmpi_type cmpi_float(void) { return (cmpi_type){MPI_FLOAT}; }
static inline cmpi_type cmpi_double(void) { return (cmpi_type){MPI_DOUBLE}; }
static inline cmpi_type cmpi_int32(void) { return (cmpi_type){MPI_INT32_T}; }
static inline cmpi_type cmpi_int64(void) { return (cmpi_type){MPI_INT64_T}; }
static inline cmpi_op cmpi_sum(void) { return (cmpi_op){MPI_SUM}; }
static inline cmpi_op cmpi_max(void) { return (cmpi_op){MPI_MAX}; }
static inline cmpi_op cmpi_min(void) { return (cmpi_op){MPI_MIN}; }
static inline cmpi_request cmpi_no_request(void) { return (cmpi_request){MPI_REQUEST_NULL}; }
static inline int cmpi_success(void) { return MPI_SUCCESS; }
static inline int cmpi_thread_serialized(void) { return MPI_THREAD_SERIALIZED; }
static inline int cmpi_max_error_string(void) { return MPI_MAX_ERROR_STRING; }
static inline int cmpi_max_processor_name(void) { return MPI_MAX_PROCESSOR_NAME; }
static inline int cmpi_max_library_version(void) { return MPI_MAX_LIBRARY_VERSION_STRING; }

// Questions and what MPI answers, beside its return value.

typedef struct {
  int code, value;
} cmpi_number;
typedef struct CMPI_SAFE {
  int code;
  cmpi_comm comm;
} cmpi_new_comm;

static inline cmpi_number cmpi_initialized(void) {
  cmpi_number answer = {0, 0};
  answer.code = MPI_Initialized(&answer.value);
  return answer;
}
static inline cmpi_number cmpi_finalized(void) {
  cmpi_number answer = {0, 0};
  answer.code = MPI_Finalized(&answer.value);
  return answer;
}
// The answer is the level of threads that there is.
static inline cmpi_number cmpi_init_thread(int required) {
  cmpi_number answer = {0, 0};
  answer.code = MPI_Init_thread(0, 0, required, &answer.value);
  return answer;
}
static inline cmpi_number cmpi_comm_rank(cmpi_comm comm) {
  cmpi_number answer = {0, 0};
  answer.code = MPI_Comm_rank(comm.raw, &answer.value);
  return answer;
}
static inline cmpi_number cmpi_comm_size(cmpi_comm comm) {
  cmpi_number answer = {0, 0};
  answer.code = MPI_Comm_size(comm.raw, &answer.value);
  return answer;
}
static inline cmpi_new_comm cmpi_comm_dup(cmpi_comm comm) {
  cmpi_new_comm answer = {0, {MPI_COMM_NULL}};
  answer.code = MPI_Comm_dup(comm.raw, &answer.comm.raw);
  return answer;
}
// The ranks of this host, in the order of `key`.
static inline cmpi_new_comm cmpi_comm_split_by_host(cmpi_comm comm, int key) {
  cmpi_new_comm answer = {0, {MPI_COMM_NULL}};
  answer.code = MPI_Comm_split_type(comm.raw, MPI_COMM_TYPE_SHARED, key, MPI_INFO_NULL, &answer.comm.raw);
  return answer;
}
static inline int cmpi_comm_free(cmpi_comm comm) { return MPI_Comm_free(&comm.raw); }
static inline int cmpi_return_errors(cmpi_comm comm) {
  return MPI_Comm_set_errhandler(comm.raw, MPI_ERRORS_RETURN);
}
static inline int cmpi_abort(int code) { return MPI_Abort(MPI_COMM_WORLD, code); }

// Operations that are started, and are over once cmpi_test_all or cmpi_wait_all says so: until then what they carry stays
// where it is.

typedef struct CMPI_SAFE {
  int code;
  cmpi_request request;
} cmpi_started;

static inline cmpi_started cmpi_ibarrier(cmpi_comm comm) {
  cmpi_started started = {0, {MPI_REQUEST_NULL}};
  started.code = MPI_Ibarrier(comm.raw, &started.request.raw);
  return started;
}
static inline cmpi_started cmpi_isend(
    const void *values, int count, cmpi_type type, int target, int tag, cmpi_comm comm) {
  cmpi_started started = {0, {MPI_REQUEST_NULL}};
  started.code = MPI_Isend(values, count, type.raw, target, tag, comm.raw, &started.request.raw);
  return started;
}
static inline cmpi_started cmpi_irecv(void *values, int count, cmpi_type type, int source, int tag, cmpi_comm comm) {
  cmpi_started started = {0, {MPI_REQUEST_NULL}};
  started.code = MPI_Irecv(values, count, type.raw, source, tag, comm.raw, &started.request.raw);
  return started;
}
static inline cmpi_started cmpi_ibcast(void *values, int count, cmpi_type type, int root, cmpi_comm comm) {
  cmpi_started started = {0, {MPI_REQUEST_NULL}};
  started.code = MPI_Ibcast(values, count, type.raw, root, comm.raw, &started.request.raw);
  return started;
}
static inline cmpi_started cmpi_iallreduce(
    const void *values, void *result, int count, cmpi_type type, cmpi_op op, cmpi_comm comm) {
  cmpi_started started = {0, {MPI_REQUEST_NULL}};
  started.code = MPI_Iallreduce(values, result, count, type.raw, op.raw, comm.raw, &started.request.raw);
  return started;
}
static inline cmpi_started cmpi_ireduce_scatter(
    const void *values, void *result, const int *counts, cmpi_type type, cmpi_op op, cmpi_comm comm) {
  cmpi_started started = {0, {MPI_REQUEST_NULL}};
  started.code = MPI_Ireduce_scatter(values, result, counts, type.raw, op.raw, comm.raw, &started.request.raw);
  return started;
}
// In place: each rank's part is in `values` already.
static inline cmpi_started cmpi_iallgather(void *values, int count, cmpi_type type, cmpi_comm comm) {
  cmpi_started started = {0, {MPI_REQUEST_NULL}};
  started.code =
      MPI_Iallgather(MPI_IN_PLACE, 0, type.raw, values, count, type.raw, comm.raw, &started.request.raw);
  return started;
}
static inline cmpi_started cmpi_iallgatherv(
    void *values, const int *counts, const int *starts, cmpi_type type, cmpi_comm comm) {
  cmpi_started started = {0, {MPI_REQUEST_NULL}};
  started.code = MPI_Iallgatherv(
      MPI_IN_PLACE, 0, type.raw, values, counts, starts, type.raw, comm.raw, &started.request.raw);
  return started;
}
static inline int cmpi_test_all(int count, cmpi_request *requests, int *flag) {
  return MPI_Testall(count, &requests->raw, flag, MPI_STATUSES_IGNORE);
}
static inline int cmpi_wait_all(int count, cmpi_request *requests) {
  return MPI_Waitall(count, &requests->raw, MPI_STATUSES_IGNORE);
}

// Operations that are over when they return.

typedef struct {
  int code, arrived, source;
} cmpi_arrival;

// Whether a message of any rank has arrived, and whose it is.
static inline cmpi_arrival cmpi_probe_any(cmpi_comm comm) {
  MPI_Status status;
  cmpi_arrival answer = {0, 0, 0};
  answer.code = MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm.raw, &answer.arrived, &status);
  if (answer.arrived) answer.source = status.MPI_SOURCE;
  return answer;
}
static inline int cmpi_recv(void *values, int count, cmpi_type type, int source, int tag, cmpi_comm comm) {
  return MPI_Recv(values, count, type.raw, source, tag, comm.raw, MPI_STATUS_IGNORE);
}
// In place.
static inline int cmpi_allreduce(void *values, int count, cmpi_type type, cmpi_op op, cmpi_comm comm) {
  return MPI_Allreduce(MPI_IN_PLACE, values, count, type.raw, op.raw, comm.raw);
}
static inline int cmpi_reduce_scatter(
    const void *values, void *result, const int *counts, cmpi_type type, cmpi_op op, cmpi_comm comm) {
  return MPI_Reduce_scatter(values, result, counts, type.raw, op.raw, comm.raw);
}
static inline int cmpi_allgatherv(
    const void *own, int count, void *values, const int *counts, const int *starts, cmpi_type type, cmpi_comm comm) {
  return MPI_Allgatherv(own, count, type.raw, values, counts, starts, type.raw, comm.raw);
}
