import { expose, wrap } from 'comlink'
import { openHiddenFrame } from './hidden-frame.js'
import { isPrerendering } from './prerendering.js'
import { type Answer, fromErrorData, TokenError } from './shared/errors.js'
import {
  type Envelope,
  type PageCalls,
  PROTOCOL,
  type WireEvent,
  type WorkerCalls,
} from './shared/protocol.js'
import { withTimeLimit } from './time-limit.js'

/** ms for a call without network. */
const shortLimit = 5_000
/** ms for a call in which the worker may renew or run a hidden frame. */
const longLimit = 60_000

const longCalls: ReadonlySet<string> = new Set(['checkSession', 'renew', 'logout'])
/** Safe to repeat: the page asks once more if the worker was stopped before it answered. */
const repeatable: ReadonlySet<string> = new Set(['hello', 'claim', 'session', 'login'])
/**
 * The browser can stop a worker in the middle of a call, and nothing says so. A page that waits for
 * one of these asks again: a worker that is still busy with it lets the second call join, and one
 * that was stopped begins anew.
 */
const joinable: ReadonlySet<string> = new Set(['checkSession', 'renew'])

/** What a page does at the worker's request. */
const pageCalls: PageCalls = {
  probe: () => ({
    able: !isPrerendering() && document.body !== null,
    visible: document.visibilityState === 'visible',
  }),
  openFrame: ({ url, doneUrl, limit }) => openHiddenFrame(url, doneUrl, limit),
}

/** Asks a worker one thing, on a port of its own: a port to a stopped worker stays silent. */
const askOnce = async ({
  worker,
  authPath,
  name,
  input,
  over,
}: {
  worker: ServiceWorker
  authPath: string | undefined
  name: keyof WorkerCalls
  input: unknown
  /** Aborted once another attempt has the answer. */
  over: AbortSignal
}): Promise<Answer<unknown> | 'replaced' | undefined> => {
  const { port1, port2 } = new MessageChannel()
  const done = new AbortController()
  const { signal } = done
  // A worker that takes the place of this one may not answer what this one was asked.
  const replaced = new Promise<'replaced'>((resolve) => {
    const giveUp = () => resolve('replaced')
    worker.addEventListener('statechange', giveUp, { signal })
    over.addEventListener('abort', giveUp, { signal })
  })
  try {
    worker.postMessage({ tokenward: PROTOCOL, authPath } satisfies Envelope, [port2])
    const remote = wrap<Record<string, (input: unknown) => Promise<Answer<unknown>>>>(port1)
    const limit = longCalls.has(name) ? longLimit : shortLimit
    return await withTimeLimit(limit, Promise.race([remote[name]?.(input), replaced]))
  } finally {
    done.abort()
    port1.close()
  }
}

/** The page's end of the bridge. */
export interface WorkerBridge {
  /**
   * Asks the worker.
   *
   * @throws TokenError as the worker gave it, or `worker_timeout`
   */
  ask<Name extends keyof WorkerCalls>(
    name: Name,
    ...[input]: Parameters<WorkerCalls[Name]>
  ): Promise<Awaited<ReturnType<WorkerCalls[Name]>>>
}

/**
 * Creates the page's end of the bridge: it asks the worker, takes its events and does what it
 * asks for.
 *
 * @param parts.isOurs Does a message from this source count?
 * @param parts.signal Ends the page's answers and events
 */
export function createWorkerBridge({
  activeWorker,
  isOurs,
  onEvent,
  authPath,
  signal,
}: {
  activeWorker: () => Promise<ServiceWorker>
  isOurs: (source: MessageEventSource | null) => boolean
  onEvent: (event: WireEvent) => void
  authPath: string | undefined
  signal: AbortSignal
}): WorkerBridge {
  const container = navigator.serviceWorker as ServiceWorkerContainer | undefined

  const onMessage = (event: MessageEvent) => {
    const { data, source, ports } = event
    if (typeof data?.tokenward !== 'number' || !isOurs(source)) return
    if (data.event && data.authPath === (authPath ?? data.authPath)) onEvent(data.event)
    const [port] = ports
    if (data.call !== true || !port) return
    // A second manager, or a second copy of the library, must not open a second frame.
    event.stopImmediatePropagation()
    expose(pageCalls, port)
  }
  container?.addEventListener('message', onMessage, { signal })
  container?.startMessages?.()

  /** Asks until an answer comes: again if the worker is replaced or may have been stopped. */
  const askUntilAnswered = async (
    name: keyof WorkerCalls,
    input: unknown,
  ): Promise<Answer<unknown> | undefined> => {
    const isJoinable = joinable.has(name)
    /** The calls that are still open: the first answer counts. */
    let open: ReturnType<typeof askOnce>[] = []
    const over = new AbortController()
    try {
      for (let tries = isJoinable ? longLimit / shortLimit : 2; tries > 0; tries--) {
        const worker = await activeWorker()
        open.push(askOnce({ worker, authPath, name, input, over: over.signal }))
        const first = Promise.race(open)
        const answer = await (isJoinable ? withTimeLimit(shortLimit, first) : first)
        if (typeof answer === 'object') return answer
        if (answer === 'replaced' || !isJoinable) open = []
        if (answer !== 'replaced' && !isJoinable && !repeatable.has(name)) break
      }
      return undefined
    } finally {
      over.abort()
    }
  }

  return {
    ask: async <Name extends keyof WorkerCalls>(
      name: Name,
      ...[input]: Parameters<WorkerCalls[Name]>
    ): Promise<Awaited<ReturnType<WorkerCalls[Name]>>> => {
      const answer = await askUntilAnswered(name, input)
      if (answer?.ok) return answer.value as Awaited<ReturnType<WorkerCalls[Name]>>
      if (answer) throw fromErrorData(answer.error)
      throw new TokenError('worker_timeout', 'The service worker gave no answer.')
    },
  }
}
