import { TokenError, type TokenErrorCode } from '../../src/shared/errors.js'
import { parseObject, readBody } from '../http/body.js'
import type { Platform } from '../platform.js'
import { withTimeLimit } from '../time-limit.js'

/** One request to the server, and how its answer is read. */
export interface Message<T> {
  url: string
  /** Beside what every request to the server has in common. */
  init?: RequestInit
  /** Reads the answer. Its errors pass if they are `TokenError`s; others count as no answer. */
  read(response: Response): Promise<T>
  /**
   * ms for the request and its answer together.
   *
   * @default 15000
   */
  limit?: number
  /**
   * What it means to get no answer.
   *
   * @default 'token_endpoint_unreachable'
   */
  unreachable?: TokenErrorCode
  /** Sends the request instead of `fetch`. */
  send?: (url: string, init: RequestInit) => Promise<Response>
}

/** A message whose body is a form, as every endpoint wants it (RFC 6749 3.2, appendix B). */
export interface FormMessage<T> extends Omit<Message<T>, 'init'> {
  params: Record<string, string>
  /**
   * The request's headers.
   *
   * @default { accept: 'application/json' }
   */
  headers?: HeadersInit
}

/** Sends requests to the authorization server, and reads their answers within a limit. */
export interface Exchange {
  /**
   * Sends one request.
   *
   * @throws TokenError and nothing else
   */
  send<T>(message: Message<T>): Promise<T>
  postForm<T>(message: FormMessage<T>): Promise<T>
  /**
   * Gets a JSON object that the server publishes.
   *
   * @throws TokenError `metadata_unreachable`, `timeout` or `offline`
   */
  readDocument(document: {
    what: 'metadata' | 'keys'
    url: string
    headers?: HeadersInit
    limit?: number
  }): Promise<Record<string, unknown>>
}

export const acceptJson = { accept: 'application/json' }

/** What every request has in common: no cookies, no cache, no redirect, no referrer. */
const common: RequestInit = {
  mode: 'cors',
  credentials: 'omit',
  cache: 'no-store',
  redirect: 'error',
  referrerPolicy: 'no-referrer',
}

export function createExchange({
  issuer,
  platform: { fetch, online, wait },
}: {
  issuer: string
  platform: Pick<Platform, 'fetch' | 'online' | 'wait'>
}): Exchange {
  const noAnswer = (code: TokenErrorCode, url: string, cause: unknown): TokenError =>
    online()
      ? new TokenError(
          code,
          `No answer from ${url}. The server is down, or does not allow this origin (CORS), or ` +
            "the worker script's Content-Security-Policy lacks it in connect-src, or an ad " +
            'blocker stops it.',
          cause,
        )
      : new TokenError('offline', 'There is no network.', cause)

  const send = async <T>({
    url,
    init,
    read,
    limit = 15_000,
    unreachable = 'token_endpoint_unreachable',
    send: transmit = fetch,
  }: Message<T>): Promise<T> => {
    // Some servers have parameters of the app in it.
    const withoutQuery = url.split('?')[0] as string
    const answer = await withTimeLimit(wait, limit, async (signal) => {
      try {
        return { value: await read(await transmit(url, { ...common, ...init, signal })) }
      } catch (cause) {
        throw cause instanceof TokenError ? cause : noAnswer(unreachable, withoutQuery, cause)
      }
    })
    if (answer) return answer.value
    throw new TokenError('timeout', `${withoutQuery} took more than ${limit / 1000} s.`)
  }

  return {
    send,

    postForm: ({ params, headers = acceptJson, ...message }) =>
      send({ ...message, init: { method: 'POST', body: new URLSearchParams(params), headers } }),

    readDocument: async ({ what, url, headers, limit }) => {
      const code = 'metadata_unreachable'
      const read = async (response: Response) => {
        if (response.ok) return parseObject(await readBody(response, code))
        throw new TokenError(
          code,
          `${issuer} answered ${response.status} for its ${what}. If there is none, give the ` +
            'option issuer the metadata itself.',
        )
      }
      const found = await send({ url, init: { headers }, read, limit, unreachable: code })
      if (!found) throw new TokenError(code, `${issuer} sent ${what} that is not JSON.`)
      return found
    },
  }
}
