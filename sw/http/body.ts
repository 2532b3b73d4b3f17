import { TokenError, type TokenErrorCode } from '../../src/shared/errors.js'

const mostBytes = 256 * 1024

/** The text of an answer, up to 256 KiB; a longer one is an error with this code. */
export const readBody = async (
  response: Response,
  code: TokenErrorCode = 'invalid_token_response',
): Promise<string> => {
  const decoder = new TextDecoder()
  const reader = response.body?.getReader()
  let bytes = 0
  let text = ''
  // By hand: Chromium's text() reports another error than the stream that failed.
  for (;;) {
    const { value } = (await reader?.read()) ?? {}
    if (!value) return text
    bytes += value.byteLength
    if (bytes > mostBytes) {
      reader?.cancel().catch(() => {})
      throw new TokenError(code, 'The answer of the server is too long.')
    }
    text += decoder.decode(value, { stream: true })
  }
}

/** The members of a JSON object; undefined if the text is something else. */
export const parseObject = (text: string): Record<string, unknown> | undefined => {
  try {
    const value: unknown = JSON.parse(text)
    return value instanceof Object ? { ...value } : undefined
  } catch {
    return undefined
  }
}

/** Does the answer say that it is JSON? */
export const isJson = (response: Response): boolean =>
  /^application\/json\b/i.test(response.headers.get('content-type') ?? '')
