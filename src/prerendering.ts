declare global {
  interface Document {
    /** Not in TypeScript's DOM types: https://wicg.github.io/nav-speculation/prerendering.html */
    readonly prerendering?: boolean
  }
}

/** Does the browser load this page in advance, so that it must not act yet? */
export const isPrerendering = (): boolean => document.prerendering === true

/** Resolves once the user sees the page. */
export const whenShown = async (): Promise<void> => {
  if (!isPrerendering()) return
  await new Promise((resolve) =>
    document.addEventListener('prerenderingchange', resolve, { once: true }),
  )
}
