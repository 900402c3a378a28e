//! `#[program("usage", "shows")]`: a record in section `programs`, a line in section `program_list`.

use proc_macro2::{Literal, TokenStream};
use quote::quote;
use syn::parse::{Parse, ParseStream};
use syn::{Error, ItemFn, LitStr, Result, Token};

pub(crate) struct Words {
    usage: LitStr,
    shows: LitStr,
}

impl Parse for Words {
    fn parse(input: ParseStream) -> Result<Words> {
        let usage: LitStr = input.parse()?;
        input.parse::<Token![,]>()?;
        let shows: LitStr = input.parse()?;
        input.parse::<Option<Token![,]>>()?;
        for text in [&usage, &shows] {
            if text.value().trim().is_empty() || text.value().contains(['\t', '\n']) {
                return Err(Error::new_spanned(text, "one line of text without tabs, for the host's list"));
            }
        }
        Ok(Words { usage, shows })
    }
}

pub(crate) fn expand(words: Words, item: TokenStream) -> Result<TokenStream> {
    let function: ItemFn = syn::parse2(item)?;
    let name = &function.sig.ident;
    let Words { usage, shows } = words;
    let line = Literal::byte_string(format!("{}\t{}\n", usage.value(), shows.value()).as_bytes());
    Ok(quote! {
        #function

        #[allow(unsafe_code)]
        const _: () = {
            const PROGRAM: ::runtime::program::Program = ::runtime::program::Program { usage: #usage, shows: #shows, run: #name };
            const LINE: &[u8] = #line;
            #[cfg(any(target_os = "none", target_os = "linux"))]
            #[used]
            #[unsafe(link_section = "programs")]
            static ENTRY: ::runtime::program::Program = PROGRAM;
            #[cfg(any(target_os = "none", target_os = "linux"))]
            #[used]
            #[unsafe(link_section = "program_list")]
            static TEXT: [u8; LINE.len()] = *#line;
            #[cfg(not(any(target_os = "none", target_os = "linux")))]
            let _ = (PROGRAM, LINE);
        };
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_that_would_break_the_list_is_refused() {
        assert!(syn::parse_str::<Words>(r#""name ARG", "shows""#).is_ok());
        assert!(syn::parse_str::<Words>(r#""name ARG""#).is_err());
        assert!(syn::parse_str::<Words>(r#""name\tARG", "shows""#).is_err());
        assert!(syn::parse_str::<Words>(r#""", "shows""#).is_err());
    }
}
