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

/** Characters of JSON that one argument may have. */
const longestArgument = 16_384
/** ms after which a call that has not been answered no longer keeps the worker alive. */
const callLimit = 60_000

const isRecord = (value: unknown): value is Record<string, unknown> =>
  typeof value === 'object' && value !== null && !Array.isArray(value)

const isText = (value: unknown): value is string => typeof value === 'string'
const isOptional = (value: unknown, check: (value: unknown) => boolean) =>
  value === undefined || check(value)
const isTextRecord = (value: unknown) => isRecord(value) && Object.values(value).every(isText)
const isNothing = (value: unknown) => value === undefined || value === null

/** What each call takes. A call that is not in this list does not exist. */
const argumentChecks: Record<keyof WorkerCalls, (value: unknown) => boolean> = {
  hello: (value) => isRecord(value) && typeof value['protocol'] === 'number',
  claim: isNothing,
  session: isNothing,
  login: (value) =>
    isRecord(value) && isText(value['returnTo']) && isOptional(value['params'], isTextRecord),
  checkSession: isNothing,
  renew: isNothing,
  logout: (value) =>
    isRecord(value) &&
    isOptional(value['returnTo'], isText) &&
    isOptional(value['local'], (local) => typeof local === 'boolean'),
  logoutOutcome: (value) => isRecord(value) && isText(value['url']),
}

/** A copy of plain data: no prototype, accessor or foreign object gets through; small only. */
const plainCopy = (value: unknown): { value: unknown } | undefined => {
  try {
    if (value === undefined) return { value }
    const json = JSON.stringify(value)
    return json.length <= longestArgument ? { value: JSON.parse(json) } : undefined
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
  if (!isRecord(data) || data['type'] !== 'APPLY' || !isText(data['id'])) return
  const { id, path, argumentList } = data
  if (!Array.isArray(path) || path.length !== 1 || !Array.isArray(argumentList)) return
  const name: unknown = path[0]
  if (!isText(name) || !Object.hasOwn(argumentChecks, name) || argumentList.length > 1) return
  const [wire] = argumentList
  if (wire !== undefined && !(isRecord(wire) && wire['type'] === 'RAW')) return
  const argument = plainCopy(wire?.['value'])
  if (!argument || !argumentChecks[name as keyof WorkerCalls](argument.value)) return
  return { id, type: 'APPLY', path: [name], argumentList: [{ type: 'RAW', ...argument }] }
}

/** A port for one checked call; whatever else arrives is dropped. */
const guard = (port: MessagePort, onAnswered: () => void): Endpoint => {
  let called = false
  return {
    postMessage: (message, transfer = []) => {
      port.postMessage(message, transfer)
      port.close()
      onAnswered()
    },
    addEventListener: (_type, listener) => {
      port.onmessage = ({ data }) => {
        const call = called ? undefined : checkedCall(data)
        if (!call) return
        called = true
        const event = new MessageEvent('message', { data: call })
        if (typeof listener === 'function') listener(event)
        else listener.handleEvent(event)
      }
    },
    removeEventListener: () => {
      port.onmessage = null
    },
  }
}

const toAnswer = async (work: () => Promise<unknown>): Promise<Answer<unknown>> => {
  try {
    return { ok: true, value: await work() }
  } catch (cause) {
    const error = isTokenError(cause)
      ? cause
      : new TokenError('worker_timeout', 'The worker failed. Reload the page.', { transient: true })
    return { ok: false, error: toErrorData(error) }
  }
}

/** The worker's end of the bridge: answers pages, calls one page, tells all of them. */
export const createPageBridge = ({
  wait,
  pages,
  scope,
}: Pick<Platform, 'wait' | 'pages' | 'scope'>) => {
  const isFromPage = (event: ExtendableMessageEvent): boolean =>
    event.origin === new URL(scope()).origin &&
    isRecord(event.source) &&
    'type' in event.source &&
    event.source.type === 'window'

  return {
    /**
     * Answers the call of a page, if the message is one. The event stays open until then: a port
     * alone does not keep a worker alive.
     */
    answer: (
      event: ExtendableMessageEvent,
      callsFor: (pageId: string, keepAlive: (work: Promise<unknown>) => void) => WorkerCalls,
    ): boolean => {
      const { data, ports, source } = event
      const [port] = ports
      if (!isRecord(data) || typeof data['tokenward'] !== 'number' || !port) return false
      if (!isFromPage(event) || !source) return false
      const calls = callsFor((source as Client).id, (work) => event.waitUntil(work))
      const exposed = Object.fromEntries(
        Object.keys(argumentChecks).map((name) => [
          name,
          (input: never) => toAnswer(async () => calls[name as keyof WorkerCalls](input)),
        ]),
      )
      const finished = new AbortController()
      const answered = new Promise<void>((resolve) => {
        expose(
          exposed,
          guard(port, () => {
            finished.abort()
            resolve()
          }),
        )
      })
      const tooLong = wait(callLimit, finished.signal).then(
        () => port.close(),
        () => {},
      )
      event.waitUntil(Promise.race([answered, tooLong]))
      return true
    },

    /** Calls a page and waits for its answer, `limit` ms at most. */
    call: async <Name extends keyof PageCalls>(
      page: Page,
      name: Name,
      input: Parameters<PageCalls[Name]>[0],
      limit: number,
    ): Promise<Awaited<ReturnType<PageCalls[Name]>>> => {
      const { port1, port2 } = new MessageChannel()
      const finished = new AbortController()
      const tooLate = wait(limit, finished.signal).then(() => {
        throw new TokenError('timeout', 'The page gave no answer.', { transient: true })
      })
      // Once the race is over, nobody listens to the loser.
      tooLate.catch(() => {})
      try {
        const message: Envelope & { call: true } = { tokenward: PROTOCOL, call: true }
        page.post(message, [port2])
        const remote = wrap<Record<string, (input: unknown) => Promise<unknown>>>(port1)
        const answer = remote[name]?.(input)
        return (await Promise.race([answer, tooLate])) as Awaited<ReturnType<PageCalls[Name]>>
      } finally {
        finished.abort()
        port1.close()
      }
    },

    /** Tells every open page of the app, controlled or not, in frames too. */
    tellAll: async (event: WireEvent): Promise<void> => {
      const message: Envelope & { event: WireEvent } = { tokenward: PROTOCOL, event }
      for (const page of await pages.list(scope())) page.post(message)
    },
  }
}
