import { type Endpoint, expose, wrap } from 'comlink'
import { type Answer, asTokenError, TokenError, toErrorData } from '../src/shared/errors.js'
import {
  type Envelope,
  type PageCalls,
  PROTOCOL,
  type WireEvent,
  type WorkerCalls,
} from '../src/shared/protocol.js'
import type { Page, Platform } from './platform.js'
import { withTimeLimit } from './time-limit.js'

/** Characters of JSON that one call may have. */
const longestCall = 16_384
/** Calls of one page that may be open at the same time; it may ask again for what is more. */
const mostCalls = 256
/** ms after which a call that has not been answered no longer keeps the worker alive. */
const callLimit = 60_000

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null

/** An object as it is written in source, and no list, map, buffer or port. */
const isPlain = (value: unknown): value is Record<string, unknown> =>
  isRecord(value) && Object.getPrototypeOf(value) === Object.prototype

/** What each call takes: nothing, or an object with these members. A `?` makes one optional. */
const calls: Record<keyof WorkerCalls, Record<string, string>> = {
  hello: {},
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
      ? isPlain(value) && Object.values(value).every((each) => typeof each === 'string')
      : typeof value === kind

/**
 * The one kind of message that may reach Comlink: a plain call of a listed method with one plain
 * argument. Comlink by itself also gets, sets, constructs and walks paths, which gives a page
 * code execution in the worker; so the message is taken apart and built anew, of the strings and
 * booleans that a method asks for and nothing else.
 */
const checkedCall = (data: unknown): unknown => {
  if (!isPlain(data)) return
  const { id, type, path, argumentList } = data
  if (typeof id !== 'string' || type !== 'APPLY') return
  if (!Array.isArray(path) || path.length !== 1) return
  if (!Array.isArray(argumentList) || argumentList.length > 1) return
  const [name] = path
  const [wire = { type: 'RAW' }] = argumentList
  if (typeof name !== 'string' || !Object.hasOwn(calls, name) || wire?.type !== 'RAW') return
  const given = wire.value ?? {}
  if (!isPlain(given)) return
  const value: Record<string, unknown> = {}
  for (const [member, kind] of Object.entries(calls[name as keyof WorkerCalls])) {
    if (!isOfKind(given[member], kind)) return
    value[member] = given[member]
  }
  const call = JSON.stringify({ id, type, path: [name], argumentList: [{ type: 'RAW', value }] })
  return call.length > longestCall ? undefined : JSON.parse(call)
}

/** A port for one checked call; whatever else arrives is dropped. */
const guard = (port: MessagePort, onAnswered: () => void): Endpoint => ({
  postMessage: (message) => {
    port.postMessage(message)
    onAnswered()
  },
  addEventListener: (_type, listener) => {
    port.onmessage = ({ data }) => {
      const call = checkedCall(data)
      if (!call) return
      port.onmessage = null
      const message = new MessageEvent('message', { data: call })
      ;(listener as EventListener)(message)
    }
  },
  removeEventListener: () => {},
})

const toAnswer = async (work: () => Promise<unknown>): Promise<Answer<unknown>> => {
  try {
    return { ok: true, value: await work() }
  } catch (cause) {
    const error = asTokenError(cause, 'worker_timeout', 'The worker failed. Reload the page.')
    return { ok: false, error: toErrorData(error) }
  }
}

/** The worker's end of the bridge: answers pages, calls one page, tells all of them. */
export const createPageBridge = (
  { wait, pages, scope }: Pick<Platform, 'wait' | 'pages' | 'scope'>,
  authPath = 'tokenward/',
) => {
  /** The page of each call that is open. */
  const open: string[] = []

  return {
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
      // It is for another token worker of this script.
      if ((event.data['authPath'] ?? authPath) !== authPath) return false
      const { id } = source
      if (open.filter((each) => each === id).length === mostCalls) {
        port.close()
        return true
      }
      open.push(id)
      const methods = callsFor(id, (work) => event.waitUntil(work))
      const exposed = Object.fromEntries(
        // The names are taken from here, since methods that only refuse are a Proxy without keys.
        Object.keys(calls).map((name) => [
          name,
          (input: never) =>
            toAnswer(async () => {
              if (event.data['tokenward'] === PROTOCOL) {
                return methods[name as keyof WorkerCalls](input)
              }
              throw new TokenError(
                'bridge_version',
                'Page and service worker use different versions of tokenward. Reload the page.',
              )
            }),
        ]),
      )
      event.waitUntil(
        withTimeLimit(
          wait,
          callLimit,
          () => new Promise<void>((resolve) => expose(exposed, guard(port, resolve))),
        ).finally(() => {
          port.close()
          open.splice(open.indexOf(id), 1)
        }),
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
      const message: Envelope & { event: WireEvent } = { tokenward: PROTOCOL, authPath, event }
      for (const page of await pages.list(scope())) page.post(message)
    },
  }
}

export type PageBridge = ReturnType<typeof createPageBridge>
