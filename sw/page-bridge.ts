import { type Answer, asTokenError, TokenError, toErrorData } from '../src/shared/errors.js'
import {
  type Envelope,
  type PageCalls,
  PROTOCOL,
  type WireEvent,
  type WorkerCalls,
} from '../src/shared/protocol.js'
import type { ExtendableMessageEvent } from './http/worker-events.js'
import type { Page, Platform } from './platform.js'
import { withTimeLimit } from './time-limit.js'
import { fits, isObject, isPlain, type Shape } from './values/shape.js'

/** The worker's end of the bridge: answers pages, calls one page, publishes to all of them. */
export interface PageBridge {
  /**
   * Answers the call of a page, if the message is one. The event stays open until then: a port
   * alone does not keep a worker alive.
   */
  answer(
    event: ExtendableMessageEvent,
    callsFor: (pageId: string, keepAlive: (work: Promise<unknown>) => void) => WorkerCalls,
  ): boolean
  /** Calls a page and waits for its answer, `limit` ms at most; undefined if none came. */
  call<Name extends keyof PageCalls>(call: {
    page: Page
    name: Name
    input: Parameters<PageCalls[Name]>[0]
    limit: number
  }): Promise<Awaited<ReturnType<PageCalls[Name]>> | undefined>
  /** Publishes to every open page of the app, controlled or not, in frames too. */
  publish(event: WireEvent): Promise<void>
}

/** Characters of JSON that one call may have. */
const longestCall = 16_384
/** Calls of one page that may be open at the same time; it may ask again for what is more. */
const mostCalls = 256
/** ms after which a call that has not been answered no longer keeps the worker alive. */
const callLimit = 60_000

/** What each call takes: nothing, or an object with these members. */
const inputs: Record<keyof WorkerCalls, Shape> = {
  hello: {},
  claim: {},
  session: {},
  login: { returnTo: 'string', 'params?': 'strings' },
  checkSession: {},
  renew: {},
  online: {},
  logout: { 'returnTo?': 'string', 'local?': 'boolean' },
  logoutOutcome: { url: 'string' },
}

interface Call {
  /** What the page knows its call by. */
  id: string
  name: keyof WorkerCalls
  input: unknown
}

/**
 * The one kind of message that a page's Comlink may send: a plain call of a listed method with one
 * plain argument. The worker takes the message apart and builds its input anew, of the strings and
 * booleans that the method asks for and nothing else. Comlink itself would also get, set, construct
 * and walk paths, which gives a page code execution in the worker, so it does not run here.
 */
const callIn = (data: unknown): Call | undefined => {
  if (!isPlain(data)) return
  const { id, type, path, argumentList } = data
  if (typeof id !== 'string' || type !== 'APPLY') return
  if (!Array.isArray(path) || path.length !== 1) return
  if (!Array.isArray(argumentList) || argumentList.length > 1) return
  const [name] = path as (keyof WorkerCalls)[]
  const [wire = { type: 'RAW' }] = argumentList
  if (typeof name !== 'string' || !Object.hasOwn(inputs, name) || wire?.type !== 'RAW') return
  const given = wire.value ?? {}
  const shape = inputs[name]
  if (!isPlain(given) || !fits(given, shape)) return
  const members = Object.keys(shape).map((key) => key.replace('?', ''))
  const input = Object.fromEntries(members.map((member) => [member, given[member]]))
  const text = JSON.stringify({ id, name, input })
  return text.length > longestCall ? undefined : JSON.parse(text)
}

/** A message of Comlink's: a value that is neither a proxy nor an error. */
const raw = (value: unknown) => ({ type: 'RAW', value })

/** Resolves with the first call on the port; whatever else arrives is dropped. */
const firstCall = (port: MessagePort): Promise<Call> =>
  new Promise((resolve) => {
    port.onmessage = ({ data }) => {
      const call = callIn(data)
      if (!call) return
      port.onmessage = null
      resolve(call)
    }
  })

const toAnswer = async (work: () => Promise<unknown>): Promise<Answer<unknown>> => {
  try {
    return { ok: true, value: await work() }
  } catch (cause) {
    const error = asTokenError(cause, 'worker_timeout', 'The worker failed. Reload the page.')
    return { ok: false, error: toErrorData(error) }
  }
}

/**
 * Creates the bridge. It speaks the messages of Comlink 4, which pages use at their ends.
 *
 * @param authPath Tells the token workers of one script apart
 */
export function createPageBridge({
  platform: { wait, pages, scope },
  authPath = 'tokenward/',
}: {
  platform: Pick<Platform, 'wait' | 'pages' | 'scope'>
  authPath?: string
}): PageBridge {
  /** The page of each call that is open. */
  const open: string[] = []

  return {
    answer: (event, callsFor) => {
      const { data } = event
      const [port] = event.ports
      const source = event.source as Client | null
      if (!isObject(data) || !('tokenward' in data) || !port) return false
      if (event.origin !== new URL(scope()).origin || source?.type !== 'window') return false
      // It is for another token worker of this script.
      if ((data['authPath'] ?? authPath) !== authPath) return false
      const { id: page } = source
      if (open.filter((each) => each === page).length === mostCalls) {
        port.close()
        return true
      }
      open.push(page)
      const calls = callsFor(page, (work) => event.waitUntil(work))
      const serve = async () => {
        const { id, name, input } = await firstCall(port)
        const answer = await toAnswer(async () => {
          if (data['tokenward'] === PROTOCOL) return await calls[name](input as never)
          throw new TokenError(
            'bridge_version',
            'Page and service worker use different versions of tokenward. Reload the page.',
          )
        })
        port.postMessage({ id, ...raw(answer) })
      }
      event.waitUntil(
        withTimeLimit(wait, callLimit, serve).finally(() => {
          port.close()
          open.splice(open.indexOf(page), 1)
        }),
      )
      return true
    },

    call: async ({ page, name, input, limit }) => {
      const { port1, port2 } = new MessageChannel()
      const message: Envelope & { call: true } = { tokenward: PROTOCOL, call: true }
      page.post(message, [port2])
      port1.postMessage({ id: name, type: 'APPLY', path: [name], argumentList: [raw(input)] })
      const answer = new Promise<never>((resolve, reject) => {
        port1.onmessage = ({ data }) =>
          data?.type === 'RAW'
            ? resolve(data.value as never)
            : reject(new Error('The page failed.'))
      })
      try {
        return await withTimeLimit(wait, limit, () => answer)
      } finally {
        port1.close()
      }
    },

    publish: async (event) => {
      const message: Envelope & { event: WireEvent } = { tokenward: PROTOCOL, authPath, event }
      for (const page of await pages.list(scope())) page.post(message)
    },
  }
}
