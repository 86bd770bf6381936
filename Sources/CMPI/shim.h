// MPI's constants are macros with casts, which Swift cannot import: each is an inline function here.
#pragma once
#include <mpi.h>

static inline MPI_Comm cmpi_world(void) { return MPI_COMM_WORLD; }
static inline MPI_Comm cmpi_null_comm(void) { return MPI_COMM_NULL; }
static inline MPI_Datatype cmpi_byte(void) { return MPI_BYTE; }
static inline MPI_Datatype cmpi_float(void) { return MPI_FLOAT; }
static inline MPI_Datatype cmpi_double(void) { return MPI_DOUBLE; }
static inline MPI_Datatype cmpi_int32(void) { return MPI_INT32_T; }
static inline MPI_Datatype cmpi_int64(void) { return MPI_INT64_T; }
static inline MPI_Info cmpi_no_info(void) { return MPI_INFO_NULL; }
static inline MPI_Op cmpi_sum(void) { return MPI_SUM; }
static inline MPI_Op cmpi_max(void) { return MPI_MAX; }
static inline MPI_Op cmpi_min(void) { return MPI_MIN; }
static inline MPI_Status *cmpi_ignore_status(void) { return MPI_STATUS_IGNORE; }
static inline void *cmpi_in_place(void) { return MPI_IN_PLACE; }
// A request under way; MPI's own type is a pointer in one library and a number in another.
typedef struct {
  MPI_Request raw;
} cmpi_request;
static inline cmpi_request cmpi_no_request(void) { return (cmpi_request){MPI_REQUEST_NULL}; }
static inline int cmpi_test_all(int count, cmpi_request *requests, int *flag) {
  return MPI_Testall(count, &requests->raw, flag, MPI_STATUSES_IGNORE);
}
static inline int cmpi_wait_all(int count, cmpi_request *requests) {
  return MPI_Waitall(count, &requests->raw, MPI_STATUSES_IGNORE);
}
static inline MPI_Comm cmpi_duplicate(MPI_Comm comm, int *code) {
  MPI_Comm copy = MPI_COMM_NULL;
  *code = MPI_Comm_dup(comm, &copy);
  return copy;
}
static inline int cmpi_free(MPI_Comm comm) { return MPI_Comm_free(&comm); }
// Whether a message of any rank has arrived, and whose it is.
static inline int cmpi_probe_any(MPI_Comm comm, int *flag, int *source) {
  MPI_Status status;
  int code = MPI_Iprobe(MPI_ANY_SOURCE, MPI_ANY_TAG, comm, flag, &status);
  if (*flag) *source = status.MPI_SOURCE;
  return code;
}
static inline int cmpi_success(void) { return MPI_SUCCESS; }
static inline int cmpi_thread_serialized(void) { return MPI_THREAD_SERIALIZED; }
static inline int cmpi_split_by_host(void) { return MPI_COMM_TYPE_SHARED; }
static inline int cmpi_max_error_string(void) { return MPI_MAX_ERROR_STRING; }
static inline int cmpi_max_processor_name(void) { return MPI_MAX_PROCESSOR_NAME; }
static inline int cmpi_max_library_version(void) { return MPI_MAX_LIBRARY_VERSION_STRING; }
static inline int cmpi_return_errors(MPI_Comm comm) {
  return MPI_Comm_set_errhandler(comm, MPI_ERRORS_RETURN);
}
