//! Stream-ordered memory pools.

use crate::case::{Case, Outcome, holds, refused, same};
use crate::context::Cx;
use cuda_client::{Code, Pool, PoolProps, flag};

pub const CASES: &[Case] = &[
    Case::new("pool.default", "The default pool is the current one at first.", default),
    Case::new("pool.current", "A device's current pool can be changed and changed back.", current),
    Case::new("pool.own", "A pool of one's own allocates, and its memory names it.", own),
    Case::new("pool.default_stays", "The default pool is not destroyed.", default_stays),
    Case::new("pool.threshold", "The release threshold keeps its value.", threshold),
    Case::new("pool.used", "A pool counts what is in use.", used),
    Case::new("pool.null", "No pool, no answer.", null),
    Case::new("pool.zero", "An allocation of no bytes is refused.", zero),
    Case::new("pool.too_much", "More than the card is out of memory.", too_much),
    Case::new(
        "pool.synchronised_free_returns",
        "With no threshold a pool gives memory back at a synchronisation after the free.",
        returns,
    ),
];

fn default(cx: &Cx) -> Outcome {
    same("current", cx.current_pool(cx.device)?, cx.default_pool(cx.device)?)
}

fn current(cx: &Cx) -> Outcome {
    let default = cx.default_pool(cx.device)?;
    let own = cx.pool_create(&PoolProps::device(cx.device))?;
    cx.set_current_pool(cx.device, own)?;
    let now = cx.current_pool(cx.device);
    cx.set_current_pool(cx.device, default)?;
    cx.pool_destroy(own)?;
    same("changed", now?, own)?;
    same("changed back", cx.current_pool(cx.device)?, default)
}

fn own(cx: &Cx) -> Outcome {
    let pool = cx.pool_create(&PoolProps::device(cx.device))?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let at = cx.mem_alloc_from_pool(1 << 20, pool, *stream)?;
    let named = cx.pointer_attribute(flag::POINTER_MEMPOOL, at);
    cx.mem_free_async(at, *stream)?;
    cx.stream_synchronize(*stream)?;
    cx.pool_destroy(pool)?;
    same("pool", named? as usize, pool.0)
}

fn default_stays(cx: &Cx) -> Outcome {
    let pool = cx.default_pool(cx.device)?;
    match cx.pool_destroy(pool) {
        Err(_) => cx.default_pool(cx.device).map(drop).map_err(Into::into),
        Ok(()) => refused("destroy", Ok(()), Code::INVALID_VALUE),
    }
}

fn threshold(cx: &Cx) -> Outcome {
    let pool = cx.pool_create(&PoolProps::device(cx.device))?;
    let before = cx.pool_attribute(pool, flag::POOL_RELEASE_THRESHOLD);
    cx.set_pool_attribute(pool, flag::POOL_RELEASE_THRESHOLD, 12 << 20)?;
    let after = cx.pool_attribute(pool, flag::POOL_RELEASE_THRESHOLD);
    cx.pool_destroy(pool)?;
    same("at first", before?, 0)?;
    same("set", after?, 12 << 20)
}

fn used(cx: &Cx) -> Outcome {
    let pool = cx.pool_create(&PoolProps::device(cx.device))?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let at = cx.mem_alloc_from_pool(4 << 20, pool, *stream)?;
    cx.stream_synchronize(*stream)?;
    let during = cx.pool_attribute(pool, flag::POOL_USED_CURRENT);
    cx.mem_free_async(at, *stream)?;
    cx.stream_synchronize(*stream)?;
    let after = cx.pool_attribute(pool, flag::POOL_USED_CURRENT);
    let high = cx.pool_attribute(pool, flag::POOL_USED_HIGH);
    cx.pool_destroy(pool)?;
    holds("in use", during? >= 4 << 20)?;
    same("after the free", after?, 0)?;
    holds("the high-water mark stays", high? >= 4 << 20)
}

fn null(cx: &Cx) -> Outcome {
    let asked = cx.pool_attribute(Pool::NULL, flag::POOL_RELEASE_THRESHOLD);
    refused("attribute", asked, Code::INVALID_VALUE)
}

fn zero(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    refused("no bytes", cx.mem_alloc_async(0, *stream), Code::INVALID_VALUE)
}

fn too_much(cx: &Cx) -> Outcome {
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let total = cx.device_total_mem(cx.device)?;
    refused("twice the card", cx.mem_alloc_async(2 * total, *stream), Code::OUT_OF_MEMORY)
}

fn returns(cx: &Cx) -> Outcome {
    let bytes = 64 << 20;
    let pool = cx.pool_create(&PoolProps::device(cx.device))?;
    let stream = cx.stream(flag::STREAM_NON_BLOCKING)?;
    let at = cx.mem_alloc_from_pool(bytes, pool, *stream)?;
    cx.stream_synchronize(*stream)?;
    let during = cx.mem_info()?.0;
    cx.mem_free_async(at, *stream)?;
    cx.stream_synchronize(*stream)?;
    let after = cx.mem_info()?.0;
    cx.pool_destroy(pool)?;
    holds("the memory came back", after >= during + bytes)
}
