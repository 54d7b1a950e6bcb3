//! The ClickHouse engine as a library, loaded at run time: the only place that touches its C interface.
//!
//! One process may hold one [`Engine`] (the library takes the data folder for itself). Every statement runs
//! on a connection of its own: a failed statement leaves output and table locks on its connection, and a
//! fresh connection costs well under a millisecond. One connection stays open throughout, because closing
//! the last one stops the engine.

#![expect(unsafe_code, reason = "the engine is a C library")]

use std::{
    ffi::{CStr, CString, c_char, c_int, c_void},
    mem::ManuallyDrop,
    path::Path,
    ptr, slice,
    sync::Arc,
};

use libloading::Library;

type Connection = *mut c_void;
type QueryResult = *mut c_void;
type Insert = *mut c_void;

type Connect = unsafe extern "C" fn(c_int, *mut *mut c_char) -> *mut Connection;
type Close = unsafe extern "C" fn(*mut Connection);
type Query = unsafe extern "C" fn(
    Connection,
    *const c_char,
    usize,
    *const c_char,
    usize,
    *const *const c_char,
    *const usize,
    *const *const c_char,
    *const usize,
    usize,
) -> QueryResult;
type InsertStart =
    unsafe extern "C" fn(Connection, *const c_char, usize, *const c_char, usize) -> Insert;
type InsertAppend = unsafe extern "C" fn(Insert, *const c_void, usize) -> c_int;
type InsertDone = unsafe extern "C" fn(Insert) -> QueryResult;
type InsertError = unsafe extern "C" fn(Insert) -> *const c_char;
type InsertDestroy = unsafe extern "C" fn(Insert);
type ResultDestroy = unsafe extern "C" fn(QueryResult);
type ResultBuffer = unsafe extern "C" fn(QueryResult) -> *const c_char;
type ResultCount = unsafe extern "C" fn(QueryResult) -> usize;
type ResultRows = unsafe extern "C" fn(QueryResult) -> u64;
type Switch = unsafe extern "C" fn(c_int);

struct Api {
    connect: Connect,
    close: Close,
    query: Query,
    insert_start: InsertStart,
    insert_append: InsertAppend,
    insert_done: InsertDone,
    insert_error: InsertError,
    insert_destroy: InsertDestroy,
    result_destroy: ResultDestroy,
    result_buffer: ResultBuffer,
    result_length: ResultCount,
    result_error: ResultBuffer,
    result_rows: ResultRows,
    result_rows_written: ResultRows,
    // Never unloaded: the engine's own threads outlive the last connection and run its code.
    _library: ManuallyDrop<Library>,
}

/// Why the engine cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// No library, or another one.
    #[error(
        "cannot load the ClickHouse engine from {path}: run `cargo xtask setup`, or name libchdb.so with --engine"
    )]
    Library {
        /// Where it was looked for.
        path: String,
        /// The loader's word.
        #[source]
        source: libloading::Error,
    },
    /// The engine does not open the folder.
    #[error(
        "the engine cannot open {0}: another event-store may be running on it, or it is not writable"
    )]
    Open(String),
}

/// An error of ClickHouse's own, in its own words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct QueryError {
    /// ClickHouse's error code; 0 when the engine gave none.
    pub code: u32,
    /// `Code: 60. DB::Exception: ...`.
    pub text: String,
}

/// A successful statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// The rows in the requested format.
    pub body: Vec<u8>,
    /// Rows of the answer.
    pub rows: u64,
    /// Rows written, those of materialised views included.
    pub rows_written: u64,
}

/// The loaded engine with its data folder.
pub struct Engine {
    api: Api,
    arguments: Vec<CString>,
    keep_alive: *mut Connection,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Engine").finish_non_exhaustive()
    }
}

// SAFETY: the library's handles may be used from any thread, one thread at a time per connection; the one
// kept here is never used for statements, only closed in `drop`, which has exclusive access.
unsafe impl Send for Engine {}
// SAFETY: as above; `&Engine` only opens further connections, which the library allows concurrently.
unsafe impl Sync for Engine {}

/// Looks a symbol up. The caller names the type that the library's header gives it.
fn symbol<T: Copy>(library: &Library, name: &CStr) -> Result<T, libloading::Error> {
    // SAFETY: every use in `Api::load` pairs the name with the signature from the library's header.
    unsafe {
        library
            .get::<T>(name.to_bytes_with_nul())
            .map(|symbol| *symbol)
    }
}

impl Api {
    fn load(path: &Path) -> Result<Self, libloading::Error> {
        // SAFETY: the library's initialisers start no threads and touch nothing of ours but signal masks.
        let library = unsafe { Library::new(path)? };
        let handlers: Switch = symbol(&library, c"chdb_set_signal_handlers_enabled")?;
        // SAFETY: plain switch, to be thrown before the first connection; our process keeps its signals.
        unsafe { handlers(0) };
        Ok(Self {
            connect: symbol(&library, c"chdb_connect")?,
            close: symbol(&library, c"chdb_close_conn")?,
            query: symbol(&library, c"chdb_query_with_params_n")?,
            insert_start: symbol(&library, c"chdb_stream_insert_n")?,
            insert_append: symbol(&library, c"chdb_stream_append")?,
            insert_done: symbol(&library, c"chdb_stream_done")?,
            insert_error: symbol(&library, c"chdb_stream_insert_error")?,
            insert_destroy: symbol(&library, c"chdb_destroy_insert_stream")?,
            result_destroy: symbol(&library, c"chdb_destroy_query_result")?,
            result_buffer: symbol(&library, c"chdb_result_buffer")?,
            result_length: symbol(&library, c"chdb_result_length")?,
            result_error: symbol(&library, c"chdb_result_error")?,
            result_rows: symbol(&library, c"chdb_result_rows_read")?,
            result_rows_written: symbol(&library, c"chdb_result_rows_written")?,
            _library: ManuallyDrop::new(library),
        })
    }
}

impl Engine {
    /// Loads the library and opens (or creates) the data folder.
    ///
    /// # Errors
    /// See [`EngineError`].
    pub fn open(library: &Path, data: &Path) -> Result<Arc<Self>, EngineError> {
        let api = Api::load(library).map_err(|source| EngineError::Library {
            path: library.display().to_string(),
            source,
        })?;
        let arguments = [
            "event-store".to_owned(),
            format!("--path={}", data.display()),
        ]
        .into_iter()
        .chain(
            [
                "--implicit_select=0",
                "--max_query_size=0",
                "--mark_cache_size=268435456",
            ]
            .map(str::to_owned),
        )
        .filter_map(|argument| CString::new(argument).ok())
        .collect();
        let mut engine = Self {
            api,
            arguments,
            keep_alive: ptr::null_mut(),
        };
        engine.keep_alive = engine
            .connect()
            .ok_or_else(|| EngineError::Open(data.display().to_string()))?;
        Ok(Arc::new(engine))
    }

    /// A session of its own for one request.
    ///
    /// # Errors
    /// When the engine gives no connection.
    pub fn session(self: &Arc<Self>) -> Result<Session, QueryError> {
        let connection = self.connect().ok_or_else(|| QueryError {
            code: 210,
            text: "Code: 210. DB::Exception: The engine gives no connection. (NETWORK_ERROR)"
                .to_owned(),
        })?;
        Ok(Session {
            engine: Arc::clone(self),
            connection,
        })
    }

    fn connect(&self) -> Option<*mut Connection> {
        let mut pointers: Vec<*mut c_char> = self
            .arguments
            .iter()
            .map(|argument| argument.as_ptr().cast_mut())
            .collect();
        let count = c_int::try_from(pointers.len()).ok()?;
        // SAFETY: `count` NUL-terminated strings that outlive the call; the library copies them.
        let connection = unsafe { (self.api.connect)(count, pointers.as_mut_ptr()) };
        (!connection.is_null()).then_some(connection)
    }

    /// Takes over a result: copies what is asked for and frees it.
    fn collect(&self, result: QueryResult) -> Result<Answer, QueryError> {
        // SAFETY: `result` is a live handle; the text is copied before the handle is destroyed.
        let error = unsafe { (self.api.result_error)(result) };
        // SAFETY: NULL or a string that lives as long as the handle.
        let error = unsafe { copy_text(error) };
        let answer = if let Some(text) = error {
            Err(QueryError {
                code: code_of(&text),
                text,
            })
        } else {
            // SAFETY: live handle, as above.
            let buffer = unsafe { (self.api.result_buffer)(result) };
            // SAFETY: live handle, as above.
            let length = unsafe { (self.api.result_length)(result) };
            let body = if buffer.is_null() || length == 0 {
                Vec::new()
            } else {
                // SAFETY: the library guarantees `length` readable bytes at `buffer` until destruction.
                unsafe { slice::from_raw_parts(buffer.cast::<u8>(), length) }.to_vec()
            };
            // SAFETY: live handle, as above.
            let rows = unsafe { (self.api.result_rows)(result) };
            // SAFETY: live handle, as above.
            let rows_written = unsafe { (self.api.result_rows_written)(result) };
            Ok(Answer {
                body,
                rows,
                rows_written,
            })
        };
        // SAFETY: the last use of the handle.
        unsafe { (self.api.result_destroy)(result) };
        answer
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.keep_alive.is_null() {
            // SAFETY: opened by `open`, closed once, after every session (they hold an Arc on us).
            unsafe { (self.api.close)(self.keep_alive) };
        }
    }
}

/// One connection: settings made here end with it.
pub struct Session {
    engine: Arc<Engine>,
    connection: *mut Connection,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session").finish_non_exhaustive()
    }
}

// SAFETY: a session is used by one thread at a time (`&mut self`); the library does not bind connections to threads.
unsafe impl Send for Session {}

impl Session {
    /// Runs one statement. `parameters` are the values of `{name:Type}`, in ClickHouse's escaped text form.
    ///
    /// # Errors
    /// ClickHouse's own.
    pub fn query(
        &mut self,
        sql: &str,
        format: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, QueryError> {
        let names: Vec<*const c_char> = parameters
            .iter()
            .map(|(name, _)| name.as_ptr().cast())
            .collect();
        let name_lengths: Vec<usize> = parameters.iter().map(|(name, _)| name.len()).collect();
        let values: Vec<*const c_char> = parameters
            .iter()
            .map(|(_, value)| value.as_ptr().cast())
            .collect();
        let value_lengths: Vec<usize> = parameters.iter().map(|(_, value)| value.len()).collect();
        // SAFETY: `Engine::session` checked that it is not NULL, and it is open until `drop`.
        let connection = unsafe { *self.connection };
        // SAFETY: the connection is open; every pointer goes with its length and outlives the call.
        let result = unsafe {
            (self.engine.api.query)(
                connection,
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
                names.as_ptr(),
                name_lengths.as_ptr(),
                values.as_ptr(),
                value_lengths.as_ptr(),
                parameters.len(),
            )
        };
        self.engine.collect(result)
    }

    /// Inserts rows given in `format`. `sql` is `INSERT INTO t (columns) [SETTINGS ...]`, without a FORMAT
    /// clause: data must never be part of the statement's text, where the engine would parse it as SQL.
    ///
    /// # Errors
    /// ClickHouse's own.
    pub fn insert(&mut self, sql: &str, format: &str, data: &[u8]) -> Result<Answer, QueryError> {
        const CHUNK_BYTES: usize = 1 << 20;
        let api = &self.engine.api;
        // SAFETY: `Engine::session` checked that it is not NULL, and it is open until `drop`.
        let connection = unsafe { *self.connection };
        // SAFETY: the connection is open; pointers go with their lengths.
        let insert = unsafe {
            (api.insert_start)(
                connection,
                sql.as_ptr().cast(),
                sql.len(),
                format.as_ptr().cast(),
                format.len(),
            )
        };
        // SAFETY: live handle; the text is copied.
        let refused = unsafe { (api.insert_error)(insert) };
        // SAFETY: NULL or a string that lives as long as the handle.
        let refused = unsafe { copy_text(refused) };
        let answer = if let Some(text) = refused {
            Err(QueryError {
                code: code_of(&text),
                text,
            })
        } else {
            for chunk in data.chunks(CHUNK_BYTES) {
                // SAFETY: live handle; the library copies the chunk. A failure is told again by `done`.
                let failed =
                    unsafe { (api.insert_append)(insert, chunk.as_ptr().cast(), chunk.len()) };
                if failed != 0 {
                    break;
                }
            }
            // SAFETY: live handle, `done` is called once.
            let result = unsafe { (api.insert_done)(insert) };
            self.engine.collect(result)
        };
        // SAFETY: the last use of the handle.
        unsafe { (api.insert_destroy)(insert) };
        answer
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // SAFETY: opened by `Engine::session`, closed once.
        unsafe { (self.engine.api.close)(self.connection) };
    }
}

/// Copies a C string.
///
/// # Safety
/// `text` is NULL or points to a NUL-terminated string.
unsafe fn copy_text(text: *const c_char) -> Option<String> {
    if text.is_null() {
        return None;
    }
    // SAFETY: by contract of this function.
    let text = unsafe { CStr::from_ptr(text) };
    Some(text.to_string_lossy().into_owned())
}

/// The first `Code: N` of an error text; nested errors repeat it.
fn code_of(text: &str) -> u32 {
    text.find("Code: ")
        .and_then(|at| text.get(at + 6..))
        .and_then(|rest| rest.split(|letter: char| !letter.is_ascii_digit()).next())
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_code_is_read_from_the_text() {
        assert_eq!(super::code_of("Code: 60. DB::Exception: Unknown table"), 60);
        assert_eq!(super::code_of("No active streaming query"), 0);
    }
}
