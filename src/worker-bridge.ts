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

/** ms for a call that needs no network. */
const shortLimit = 5_000
/** ms for a call during which the worker may renew, or run a hidden frame. */
const longLimit = 60_000

const longCalls: ReadonlySet<string> = new Set(['checkSession', 'renew', 'logout'])
/** Cheap to ask again, so a worker that was stopped meanwhile is asked once more. */
const repeatable: ReadonlySet<string> = new Set(['hello', 'claim', 'session', 'login'])

/** What a page does for the worker. */
const pageCalls: PageCalls = {
  probe: () => ({
    able: !isPrerendering() && document.body !== null,
    visible: document.visibilityState === 'visible',
  }),
  openFrame: ({ url, doneUrl, limit }) => openHiddenFrame(url, doneUrl, limit),
}

/** Asks a worker one thing, on a port of its own: a port to a stopped worker is silent for ever. */
const askOnce = async (
  worker: ServiceWorker,
  authPath: string | undefined,
  name: keyof WorkerCalls,
  input: unknown,
): Promise<Answer<unknown> | undefined> => {
  const { port1, port2 } = new MessageChannel()
  let giveUp = () => {}
  const lost = new Promise<undefined>((resolve) => {
    giveUp = () => resolve(undefined)
  })
  const timer = setTimeout(giveUp, longCalls.has(name) ? longLimit : shortLimit)
  // Another one has taken its place, and what it was asked may be lost with it.
  worker.addEventListener('statechange', giveUp)
  try {
    worker.postMessage({ tokenward: PROTOCOL, authPath } satisfies Envelope, [port2])
    const remote = wrap<Record<string, (input: unknown) => Promise<Answer<unknown>>>>(port1)
    return await Promise.race([remote[name]?.(input), lost])
  } finally {
    clearTimeout(timer)
    worker.removeEventListener('statechange', giveUp)
    port1.close()
  }
}

/** The page's end of the bridge: asks the worker, hears its events, does what it asks for. */
export const createWorkerBridge = (
  activeWorker: () => Promise<ServiceWorker>,
  isOurs: (source: MessageEventSource | null) => boolean,
  onEvent: (event: WireEvent) => void,
  authPath: string | undefined,
) => {
  const container = globalThis.navigator?.serviceWorker as ServiceWorkerContainer | undefined

  const onMessage = (event: MessageEvent) => {
    const { data, source, ports } = event
    if (typeof data?.tokenward !== 'number' || !isOurs(source)) return
    if (data.event && data.authPath === (authPath ?? data.authPath)) onEvent(data.event)
    const [port] = ports
    if (data.call !== true || !port) return
    // One frame is enough where the page holds a second manager or a second copy of the library.
    event.stopImmediatePropagation()
    expose(pageCalls, port)
  }
  container?.addEventListener('message', onMessage)
  container?.startMessages?.()

  return {
    /**
     * Asks the worker.
     *
     * @throws TokenError as the worker gave it, or `worker_timeout`
     */
    ask: async <Name extends keyof WorkerCalls>(
      name: Name,
      ...[input]: Parameters<WorkerCalls[Name]>
    ): Promise<Awaited<ReturnType<WorkerCalls[Name]>>> => {
      for (let tries = 0; tries < 2; tries++) {
        const worker = await activeWorker()
        const answer = await askOnce(worker, authPath, name, input)
        if (answer?.ok) return answer.value as Awaited<ReturnType<WorkerCalls[Name]>>
        if (answer) throw fromErrorData(answer.error)
        if (worker.state === 'activated' && !repeatable.has(name)) break
      }
      throw new TokenError('worker_timeout', 'The service worker gave no answer.')
    },

    close: () => container?.removeEventListener('message', onMessage),
  }
}
