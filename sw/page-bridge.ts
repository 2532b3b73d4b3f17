import { type Endpoint, expose, wrap } from 'comlink'
import { type Answer, isTokenError, TokenError, toErrorData } from '../src/shared/errors.js'
import {
  type Envelope,
  type PageCalls,
  PROTOCOL,
  type WireEvent,
  type WorkerCalls,
} from '../src/shared/protocol.js'
import type { Page, Platform } from './platform.js'
import { withTimeLimit } from './time-limit.js'

/** Characters of JSON that one argument may have. */
const longestArgument = 16_384
/** ms after which a call that has not been answered no longer keeps the worker alive. */
const callLimit = 60_000

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null

/** What each call takes: nothing, or an object with these members. A `?` makes one optional. */
const calls: Record<keyof WorkerCalls, Record<string, string>> = {
  hello: { protocol: 'number' },
  claim: {},
  session: {},
  login: { returnTo: 'string', params: '?strings' },
  checkSession: {},
  renew: {},
  online: {},
  logout: { returnTo: '?string', local: '?boolean' },
  logoutOutcome: { url: 'string' },
}

const isOfKind = (value: unknown, kind: string): boolean =>
  kind.startsWith('?')
    ? value === undefined || isOfKind(value, kind.slice(1))
    : kind === 'strings'
      ? isRecord(value) && Object.values(value).every((each) => typeof each === 'string')
      : typeof value === kind

/** A copy of plain data: no prototype, accessor or foreign object gets through; small only. */
const plainCopy = (value: unknown): Record<string, unknown> | undefined => {
  try {
    const json = JSON.stringify(value ?? {})
    const copy: unknown = json.length <= longestArgument && JSON.parse(json)
    return isRecord(copy) ? copy : undefined
  } catch {
    return undefined
  }
}

/**
 * The one kind of message that may reach Comlink: a plain call of a listed method with one plain
 * argument. Comlink by itself also gets, sets, constructs and walks paths, which gives a page
 * code execution in the worker; so the message is taken apart and built anew.
 */
const checkedCall = (data: unknown) => {
  if (!isRecord(data) || data['type'] !== 'APPLY') return
  const { id, path, argumentList } = data
  if (!Array.isArray(path) || path.length !== 1 || !Array.isArray(argumentList)) return
  const [name] = path
  const [wire] = argumentList
  if (typeof name !== 'string' || !Object.hasOwn(calls, name)) return
  const value = plainCopy(wire?.value)
  const kinds = Object.entries(calls[name as keyof WorkerCalls])
  if (!value || kinds.some(([member, kind]) => !isOfKind(value[member], kind))) return
  return { id: String(id), type: 'APPLY', path: [name], argumentList: [{ type: 'RAW', value }] }
}

/** A port for one checked call; whatever else arrives is dropped. */
const guard = (port: MessagePort, onAnswered: () => void): Endpoint => ({
  postMessage: (message) => {
    port.postMessage(message)
    port.close()
    onAnswered()
  },
  addEventListener: (_type, listener) => {
    port.onmessage = ({ data }) => {
      const call = checkedCall(data)
      if (!call) return
      port.onmessage = null
      const message = new MessageEvent('message', { data: call })
      if ('handleEvent' in listener) listener.handleEvent(message)
      else listener(message)
    }
  },
  removeEventListener: () => {},
})

const toAnswer = async (work: () => Promise<unknown>): Promise<Answer<unknown>> => {
  try {
    return { ok: true, value: await work() }
  } catch (cause) {
    const failed = () => new TokenError('worker_timeout', 'The worker failed. Reload the page.')
    return { ok: false, error: toErrorData(isTokenError(cause) ? cause : failed()) }
  }
}

/** The worker's end of the bridge: answers pages, calls one page, tells all of them. */
export const createPageBridge = ({
  wait,
  pages,
  scope,
}: Pick<Platform, 'wait' | 'pages' | 'scope'>) => ({
  /**
   * Answers the call of a page, if the message is one. The event stays open until then: a port
   * alone does not keep a worker alive.
   */
  answer: (
    event: ExtendableMessageEvent,
    callsFor: (pageId: string, keepAlive: (work: Promise<unknown>) => void) => WorkerCalls,
  ): boolean => {
    const [port] = event.ports
    const source = event.source as Client | null
    if (!isRecord(event.data) || !('tokenward' in event.data) || !port) return false
    if (event.origin !== new URL(scope()).origin || source?.type !== 'window') return false
    const methods = callsFor(source.id, (work) => event.waitUntil(work))
    const exposed = Object.fromEntries(
      // The names are taken from here, since methods that only refuse are a Proxy without keys.
      Object.keys(calls).map((name) => [
        name,
        (input: never) => toAnswer(async () => methods[name as keyof WorkerCalls](input)),
      ]),
    )
    event.waitUntil(
      withTimeLimit(
        wait,
        callLimit,
        () => new Promise<void>((resolve) => expose(exposed, guard(port, resolve))),
      ),
    )
    return true
  },

  /** Calls a page and waits for its answer, `limit` ms at most; undefined if none came. */
  call: async <Name extends keyof PageCalls>(
    page: Page,
    name: Name,
    input: Parameters<PageCalls[Name]>[0],
    limit: number,
  ): Promise<Awaited<ReturnType<PageCalls[Name]>> | undefined> => {
    const { port1, port2 } = new MessageChannel()
    const message: Envelope & { call: true } = { tokenward: PROTOCOL, call: true }
    page.post(message, [port2])
    const remote = wrap<Record<string, (input: unknown) => never>>(port1)
    try {
      return await withTimeLimit(wait, limit, () => remote[name]?.(input) as never)
    } finally {
      port1.close()
    }
  },

  /** Tells every open page of the app, controlled or not, in frames too. */
  tellAll: async (event: WireEvent): Promise<void> => {
    const message: Envelope & { event: WireEvent } = { tokenward: PROTOCOL, event }
    for (const page of await pages.list(scope())) page.post(message)
  },
})

export type PageBridge = ReturnType<typeof createPageBridge>
