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
}: {
  worker: ServiceWorker
  authPath: string | undefined
  name: keyof WorkerCalls
  input: unknown
}): Promise<Answer<unknown> | undefined> => {
  const { port1, port2 } = new MessageChannel()
  const done = new AbortController()
  const { signal } = done
  // A worker that takes the place of this one may not answer what this one was asked.
  const replaced = new Promise<undefined>((resolve) => {
    worker.addEventListener('statechange', () => resolve(undefined), { signal })
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

  return {
    ask: async <Name extends keyof WorkerCalls>(
      name: Name,
      ...[input]: Parameters<WorkerCalls[Name]>
    ): Promise<Awaited<ReturnType<WorkerCalls[Name]>>> => {
      for (let tries = 0; tries < 2; tries++) {
        const worker = await activeWorker()
        const answer = await askOnce({ worker, authPath, name, input })
        if (answer?.ok) return answer.value as Awaited<ReturnType<WorkerCalls[Name]>>
        if (answer) throw fromErrorData(answer.error)
        if (worker.state === 'activated' && !repeatable.has(name)) break
      }
      throw new TokenError('worker_timeout', 'The service worker gave no answer.')
    },
  }
}
