//! Streams, events, host functions, and stream capture.

use crate::{
    Context, Driver, Event, Graph, GraphExec, HostFn, Result, Stream, StreamCallback, call,
};
use std::ffi::c_void;

impl Driver {
    /// `cuStreamCreate`.
    pub fn stream_create(&self, flags: u32) -> Result<Stream> {
        let mut stream = Stream::NULL;
        call!(self.cuStreamCreate(&mut stream, flags))?;
        Ok(stream)
    }

    /// `cuStreamCreateWithPriority`.
    pub fn stream_create_with_priority(&self, flags: u32, priority: i32) -> Result<Stream> {
        let mut stream = Stream::NULL;
        call!(self.cuStreamCreateWithPriority(&mut stream, flags, priority))?;
        Ok(stream)
    }

    /// `cuStreamDestroy`.
    pub fn stream_destroy(&self, stream: Stream) -> Result<()> {
        call!(self.cuStreamDestroy(stream))
    }

    /// `cuStreamSynchronize`.
    pub fn stream_synchronize(&self, stream: Stream) -> Result<()> {
        call!(self.cuStreamSynchronize(stream))
    }

    /// `cuStreamQuery`.
    pub fn stream_query(&self, stream: Stream) -> Result<()> {
        call!(self.cuStreamQuery(stream))
    }

    /// `cuStreamWaitEvent`.
    pub fn stream_wait_event(&self, stream: Stream, event: Event) -> Result<()> {
        call!(self.cuStreamWaitEvent(stream, event, 0))
    }

    /// `cuStreamGetFlags`.
    pub fn stream_flags(&self, stream: Stream) -> Result<u32> {
        let mut flags = 0;
        call!(self.cuStreamGetFlags(stream, &mut flags))?;
        Ok(flags)
    }

    /// `cuStreamGetPriority`.
    pub fn stream_priority(&self, stream: Stream) -> Result<i32> {
        let mut priority = 0;
        call!(self.cuStreamGetPriority(stream, &mut priority))?;
        Ok(priority)
    }

    /// `cuStreamGetCtx`.
    pub fn stream_context(&self, stream: Stream) -> Result<Context> {
        let mut context = Context::NULL;
        call!(self.cuStreamGetCtx(stream, &mut context))?;
        Ok(context)
    }

    /// `cuStreamGetId`.
    pub fn stream_id(&self, stream: Stream) -> Result<u64> {
        let mut id = 0;
        call!(self.cuStreamGetId(stream, &mut id))?;
        Ok(id)
    }

    /// `cuStreamAddCallback`.
    ///
    /// # Safety
    /// `data` fits `callback` and lives until it has run.
    pub unsafe fn stream_add_callback(
        &self,
        stream: Stream,
        callback: StreamCallback,
        data: *mut c_void,
    ) -> Result<()> {
        call!(self.cuStreamAddCallback(stream, callback, data, 0))
    }

    /// `cuLaunchHostFunc`.
    ///
    /// # Safety
    /// `data` fits `function` and lives until it has run.
    pub unsafe fn launch_host_func(
        &self,
        stream: Stream,
        function: HostFn,
        data: *mut c_void,
    ) -> Result<()> {
        call!(self.cuLaunchHostFunc(stream, function, data))
    }

    /// `cuEventCreate`.
    pub fn event_create(&self, flags: u32) -> Result<Event> {
        let mut event = Event::NULL;
        call!(self.cuEventCreate(&mut event, flags))?;
        Ok(event)
    }

    /// `cuEventDestroy`.
    pub fn event_destroy(&self, event: Event) -> Result<()> {
        call!(self.cuEventDestroy(event))
    }

    /// `cuEventRecord`.
    pub fn event_record(&self, event: Event, stream: Stream) -> Result<()> {
        call!(self.cuEventRecord(event, stream))
    }

    /// `cuEventRecordWithFlags`.
    pub fn event_record_with_flags(&self, event: Event, stream: Stream, flags: u32) -> Result<()> {
        call!(self.cuEventRecordWithFlags(event, stream, flags))
    }

    /// `cuEventQuery`.
    pub fn event_query(&self, event: Event) -> Result<()> {
        call!(self.cuEventQuery(event))
    }

    /// `cuEventSynchronize`.
    pub fn event_synchronize(&self, event: Event) -> Result<()> {
        call!(self.cuEventSynchronize(event))
    }

    /// `cuEventElapsedTime` in milliseconds.
    pub fn event_elapsed(&self, start: Event, end: Event) -> Result<f32> {
        let mut milliseconds = 0.0;
        call!(self.cuEventElapsedTime(&mut milliseconds, start, end))?;
        Ok(milliseconds)
    }

    /// `cuStreamIsCapturing`.
    pub fn stream_is_capturing(&self, stream: Stream) -> Result<u32> {
        let mut status = u32::MAX;
        call!(self.cuStreamIsCapturing(stream, &mut status))?;
        Ok(status)
    }

    /// `cuStreamGetCaptureInfo`: status, and the capture's id while one is active.
    pub fn stream_capture_info(&self, stream: Stream) -> Result<(u32, u64)> {
        let (mut status, mut id) = (u32::MAX, 0);
        call!(self.cuStreamGetCaptureInfo(stream, &mut status, &mut id))?;
        Ok((status, id))
    }

    /// `cuStreamGetCaptureInfo_v2`, without the graph.
    pub fn stream_capture_info_v2(&self, stream: Stream) -> Result<(u32, u64)> {
        let (mut status, mut id) = (u32::MAX, 0);
        let none = std::ptr::null_mut();
        call!(self.cuStreamGetCaptureInfo_v2(
            stream,
            &mut status,
            &mut id,
            none,
            std::ptr::null_mut(),
            std::ptr::null_mut()
        ))?;
        Ok((status, id))
    }

    /// `cuThreadExchangeStreamCaptureMode`: sets a mode, returns the one before.
    pub fn exchange_capture_mode(&self, mode: u32) -> Result<u32> {
        let mut mode = mode;
        call!(self.cuThreadExchangeStreamCaptureMode(&mut mode))?;
        Ok(mode)
    }

    /// `cuStreamBeginCapture`.
    pub fn begin_capture(&self, stream: Stream, mode: u32) -> Result<()> {
        call!(self.cuStreamBeginCapture(stream, mode))
    }

    /// `cuStreamEndCapture`.
    pub fn end_capture(&self, stream: Stream) -> Result<Graph> {
        let mut graph = Graph::NULL;
        call!(self.cuStreamEndCapture(stream, &mut graph))?;
        Ok(graph)
    }

    /// `cuGraphInstantiateWithFlags`.
    pub fn graph_instantiate(&self, graph: Graph) -> Result<GraphExec> {
        let mut exec = GraphExec::NULL;
        call!(self.cuGraphInstantiateWithFlags(&mut exec, graph, 0))?;
        Ok(exec)
    }

    /// `cuGraphLaunch`.
    pub fn graph_launch(&self, exec: GraphExec, stream: Stream) -> Result<()> {
        call!(self.cuGraphLaunch(exec, stream))
    }

    /// `cuGraphExecDestroy`.
    pub fn graph_exec_destroy(&self, exec: GraphExec) -> Result<()> {
        call!(self.cuGraphExecDestroy(exec))
    }

    /// `cuGraphDestroy`.
    pub fn graph_destroy(&self, graph: Graph) -> Result<()> {
        call!(self.cuGraphDestroy(graph))
    }
}
